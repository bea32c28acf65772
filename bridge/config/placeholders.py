"""Values that stand in the documentation for a secret: everybody can read them, so none of them is one."""

import base64
import re
from collections.abc import Iterator

SANDBOX_TOKEN = "sandbox-token"  # noqa: S105  (of the sandbox, which listens on this machine alone)

PUBLIC = (
    "is a placeholder from the documentation and no secret; replace it with the value that the other side issued, "
    "or with a random one (`openssl rand -hex 32`; for a signing secret, `whsec_` and `openssl rand -base64 32`)"
)

_MARKS = re.compile(r"(?i:replace[-_ ]?me|change[-_ ]?(?:me|it)\b|placeholder)|://user:(?:secret|password)@")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{8,}")


def is_placeholder(secret: str) -> bool:
    """Whether a value says that it is to be replaced, as it is or inside its base64."""
    return any(_MARKS.search(text) for text in (secret, *_decoded(secret)))


def _decoded(secret: str) -> Iterator[str]:
    for found in _BASE64.finditer(secret):
        text = found[0][: len(found[0]) // 4 * 4]
        yield base64.b64decode(text).decode("latin-1")
