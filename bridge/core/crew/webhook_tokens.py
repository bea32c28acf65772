"""Tokens in the URLs of crew webhooks: each identifies one attempt of one run, and authenticates itself.

Crew webhooks have no authentication, so knowing the URL is the permission. A token is derived from the store's key and
contains the attempt: a forged token costs no lookup, and every process on the store can verify it.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

_ID_BYTES = 16
_MIN_ATTEMPT_BYTES = 2  # of its number; a run that is refused for weeks needs more
_MAC_BYTES = 20  # 160 bits


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST of one run; `number` counts from 1."""

    run_id: str
    number: int


def issue(key: bytes, attempt: Attempt) -> str:
    """Return the token of an attempt as URL-safe text."""
    length = max(_MIN_ATTEMPT_BYTES, (attempt.number.bit_length() + 7) // 8)
    payload = bytes.fromhex(attempt.run_id.replace("-", "")) + attempt.number.to_bytes(length, "big")
    return base64.urlsafe_b64encode(payload + _mac(key, payload)).rstrip(b"=").decode()


def read(key: bytes, token: str) -> Attempt | None:
    """Return the attempt that a token was issued for; None if the token is not genuine."""
    try:
        content = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    payload, mac = content[:-_MAC_BYTES], content[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, payload)):
        return None
    text = payload[:_ID_BYTES].hex()
    run_id = "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    return Attempt(run_id, int.from_bytes(payload[_ID_BYTES:], "big"))


def _mac(key: bytes, payload: bytes) -> bytes:
    return hmac.new(key, b"amp:" + payload, hashlib.sha256).digest()[:_MAC_BYTES]
