"""The unguessable part of the URLs that the crew API calls back: it says which attempt of which run, and proves itself.

The crew's webhooks carry no authentication, so knowing the URL is the permission. A token is derived from the store's
key and holds what it is about: nothing is looked up for a forged one, and every process on the store can read it.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

_ID_BYTES = 16
_LEAST_ATTEMPT_BYTES = 2  # of its number; a run that is refused for weeks makes more attempts than these can count
_MAC_BYTES = 20  # 160 bits


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST of one run; `number` counts from 1."""

    run_id: str
    number: int


def issue(key: bytes, attempt: Attempt) -> str:
    """The token of an attempt: URL-safe text."""
    length = max(_LEAST_ATTEMPT_BYTES, (attempt.number.bit_length() + 7) // 8)
    about = bytes.fromhex(attempt.run_id.replace("-", "")) + attempt.number.to_bytes(length, "big")
    return base64.urlsafe_b64encode(about + _mac(key, about)).rstrip(b"=").decode()


def read(key: bytes, token: str) -> Attempt | None:
    """The attempt that a token was issued for; None for anything else."""
    try:
        content = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    about, mac = content[:-_MAC_BYTES], content[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, about)):
        return None
    text = about[:_ID_BYTES].hex()
    run_id = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    return Attempt(run_id, int.from_bytes(about[_ID_BYTES:], "big"))


def _mac(key: bytes, about: bytes) -> bytes:
    return hmac.new(key, b"amp:" + about, hashlib.sha256).digest()[:_MAC_BYTES]
