"""Standard Webhooks keys: both kinds produce the published signatures, and a public key accepts only its own."""

import base64

import pytest

from bridge.adapters.callbacks.signing import build_checker, build_signer
from bridge.core.inbound.signatures import ed25519_public

PUBLIC_KEY = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
SEED = base64.b64encode(bytes(range(32))).decode()
BODY = (
    b'{"specversion":"1.0","id":"evt_01","source":"urn:example:bridge",'
    b'"type":"com.example.crew.execution.completed","data":{"kickoff_id":"abcd1234"}}'
)
SIGNED = b"evt_01.1700000000." + BODY
BY_PAIR = "v1a,Ex8SZ+84begsTWSYAbjf8TnIgLC68MZg5svFayZuKrkvcT3lg8R3c67vyQtwdkstr8pS6f2stIZc4szrvAQBBQ=="
SIGNATURE = base64.b64decode(BY_PAIR.removeprefix("v1a,"))


@pytest.mark.parametrize(
    ("secret", "signature"),
    [(f"whsk_{SEED}", BY_PAIR), (f"whsec_{SEED}", "v1,I0wYlrnpZHp6FYRPEtuUfydN9An9Ect6WXJHii1cv7o=")],
)
def test_a_secret_produces_the_published_signature(secret: str, signature: str):
    assert build_signer(secret)("evt_01", 1_700_000_000, BODY) == signature


def test_a_public_key_accepts_the_signature_of_its_pair():
    assert build_checker(ed25519_public(PUBLIC_KEY))(SIGNATURE, SIGNED)


@pytest.mark.parametrize(
    ("signature", "signed"),
    [
        (SIGNATURE, SIGNED + b" "),
        (SIGNATURE[:-1] + bytes([SIGNATURE[-1] ^ 1]), SIGNED),
        (SIGNATURE[:-1], SIGNED),
        (SIGNATURE + b"\0", SIGNED),
        (b"", SIGNED),
        (bytes(64), SIGNED),
    ],
)
def test_a_public_key_refuses_any_other_signature(signature: bytes, signed: bytes):
    assert not build_checker(ed25519_public(PUBLIC_KEY))(signature, signed)


def test_another_public_key_refuses_the_signature():
    assert not build_checker(bytes(32))(SIGNATURE, SIGNED)
