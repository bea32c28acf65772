"""The keys of Standard Webhooks: signing with `whsec_` (HMAC) and `whsk_` (Ed25519), and checking with `whpk_`."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from standardwebhooks import Webhook

from bridge.core.inbound.signatures import PRIVATE, Check, ed25519_seed

Signer = Callable[[str, int, bytes], str]
"""(id, seconds since the epoch, body) → one value of the header `webhook-signature`."""


def signer(secret: str) -> Signer:
    """What signs with a secret; raises `ValueError` for one that is not sound."""
    if not secret.startswith(PRIVATE):
        webhook = Webhook(secret)
        return lambda event_id, at, body: webhook.sign(event_id, datetime.fromtimestamp(at, UTC), body.decode())
    key = Ed25519PrivateKey.from_private_bytes(ed25519_seed(secret))
    return lambda event_id, at, body: f"v1a,{base64.b64encode(key.sign(f'{event_id}.{at}.'.encode() + body)).decode()}"


def checker(key: bytes) -> Check:
    """What checks signatures made with the other half of this public key (32 bytes)."""
    public = Ed25519PublicKey.from_public_bytes(key)

    def check(signature: bytes, signed: bytes) -> bool:
        try:
            public.verify(signature, signed)
        except InvalidSignature:
            return False
        return True

    return check
