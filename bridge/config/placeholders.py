"""Recognize placeholders that the documentation uses in place of secrets; they are public and must be replaced."""

import base64
import re
from collections.abc import Iterator

SANDBOX_TOKEN = "sandbox-token"  # noqa: S105  (the sandbox listens only on this machine)

PUBLIC = (
    "is a placeholder from the documentation, not a secret; replace it with the value that the other side issued, "
    "or with a random one (`openssl rand -hex 32`; for a signing secret, `whsec_` and `openssl rand -base64 32`)"
)

CALLBACK_SECRET = "whsec_cGxhY2Vob2xkZXIgb2Yga2lja29mZi1icmlkZ2UgdGVzdHM="  # noqa: S105 - public, and refused
"""Signs the callbacks of `kickoff-bridge dev` and of the pytest plugin."""
_MARKS = re.compile(r"(?i:replace[-_ ]?me|change[-_ ]?(?:me|it)\b|placeholder)|://user:(?:secret|password)@")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{8,}")


def is_placeholder(secret: str) -> bool:
    """Return whether a value contains a placeholder, as plain text or in base64."""
    return any(_MARKS.search(text) for text in (secret, *_decoded(secret)))


def _decoded(secret: str) -> Iterator[str]:
    for found in _BASE64.finditer(secret):
        text = found[0][: len(found[0]) // 4 * 4]
        yield base64.b64decode(text).decode("latin-1")
