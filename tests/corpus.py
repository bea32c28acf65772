"""Bodies that no producer should send, and ways to corrupt them further."""

import random

SEEDS = [
    b"",
    b"{}",
    b"null",
    b"[]",
    b'{"crew": "research", "inputs": {"topic": "peat"}}',
    b'{"crew": "research", "inputs": {}, "meta": {"a": [1, 2.5, null]}, "deadline": "30m", "priority": 9}',
    b'{"crew": "research", "callback_url": "https://example.com/x", "idempotency_key": "k"}',
    b'{"crew": "research", "crew": "triage"}',
    b'{"crew": NaN}',
    b'{"crew": "research", "priority": 1e999}',
    b'{"crew": "research", "meta": {"n": ' + b"9" * 5000 + b"}}",
    b'{"crew": "\\ud800"}',
    b'{"crew": "research", "meta": {"a": "\\u0000"}}',
    b'{"crew": ' + b"[" * 3000,
    b'{"a":' * 100 + b"1" + b"}" * 100,
    b"\xef\xbb\xbf{}",
    '{"crew": "research"}'.encode("utf-16"),
    b"\xc0\xaf\xed\xa0\x80",
    b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"crew": "research"}}',
    b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "time": "x", "data_base64": "e30="}',
]


def corrupted(rng: random.Random, raw: bytes) -> bytes:
    """The bytes with a few of them changed, cut off, duplicated, or followed by others."""
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(raw) + 1)
        match rng.randrange(4):
            case 0:
                raw = raw[:at] + rng.randbytes(1) + raw[at + 1 :]
            case 1:
                raw = raw[:at]
            case 2:
                raw = raw[:at] + rng.choice(SEEDS) + raw[at:]
            case _:
                raw = raw[:at] + raw[at : at + 9] + raw[at:]
    return raw
