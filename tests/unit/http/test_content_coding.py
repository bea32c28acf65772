"""Compressed bodies: decoded up to a limit, refused if they are not one complete stream."""

import gzip
import zlib

import pytest

from bridge.core.http.content_coding import inflate

CONTENT = b'{"crew": "research"}'


def raw_deflate(content: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(content) + stream.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [("gzip", gzip.compress(CONTENT, mtime=0)), ("deflate", zlib.compress(CONTENT)), ("deflate", raw_deflate(CONTENT))],
)
def test_a_body_is_decoded_up_to_the_limit(coding: str, body: bytes) -> None:
    assert inflate(body, coding, len(CONTENT)) == CONTENT
    assert inflate(body, coding, len(CONTENT) - 1) is None


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", CONTENT),
        ("gzip", gzip.compress(CONTENT, mtime=0)[:-1]),
        ("gzip", gzip.compress(CONTENT, mtime=0) * 2),
        ("gzip", zlib.compress(CONTENT)),
        ("deflate", zlib.compress(CONTENT)[:-1]),
        ("deflate", b""),
    ],
)
def test_anything_but_one_complete_stream_is_refused(coding: str, body: bytes) -> None:
    with pytest.raises(ValueError, match="stream"):
        inflate(body, coding, 1000)
