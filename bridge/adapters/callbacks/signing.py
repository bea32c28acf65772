"""Standard Webhooks signatures: sign with `whsec_` (HMAC) and `whsk_` (Ed25519), verify with `whpk_`."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from standardwebhooks import Webhook

from bridge.core.inbound.signatures import PRIVATE, Check, ed25519_seed

Signer = Callable[[str, int, bytes], str]
"""(event id, Unix time in seconds, body) → one value of the header `webhook-signature`."""


def build_signer(secret: str) -> Signer:
    """Return a function that signs with the secret. Raise `ValueError` for a malformed secret."""
    if not secret.startswith(PRIVATE):
        webhook = Webhook(secret)
        return lambda event_id, at, body: webhook.sign(event_id, datetime.fromtimestamp(at, UTC), body.decode())
    key = Ed25519PrivateKey.from_private_bytes(ed25519_seed(secret))
    return lambda event_id, at, body: f"v1a,{base64.b64encode(key.sign(f'{event_id}.{at}.'.encode() + body)).decode()}"


def build_checker(key: bytes) -> Check:
    """Return a function that verifies signatures with an Ed25519 public key (32 bytes)."""
    public = Ed25519PublicKey.from_public_bytes(key)

    def check(signature: bytes, signed: bytes) -> bool:
        try:
            public.verify(signature, signed)
        except InvalidSignature:
            return False
        return True

    return check
