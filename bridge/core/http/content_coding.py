"""Decode a compressed HTTP body, never to more bytes than the caller permits."""

import zlib

_ZLIB_METHOD = 8  # in the low bits of the first byte of a zlib stream; some senders omit that header in `deflate`


def inflate(body: bytes, coding: str, limit: int) -> bytes | None:
    """Decode a body of the coding `gzip` or `deflate`; None if the content is larger than `limit` bytes.

    Raises `ValueError` if the body is not one complete stream. Further members are refused: each costs the same however
    short it is.
    """
    stream = zlib.decompressobj(_window(body, coding))
    try:
        content = stream.decompress(body, limit + 1)
    except zlib.error:
        raise ValueError("not a valid stream") from None
    if len(content) > limit:
        return None
    if not stream.eof or stream.unused_data:
        raise ValueError("not one complete stream")
    return content


def _window(body: bytes, coding: str) -> int:
    """Return what zlib calls `wbits`: which header it expects."""
    if coding == "gzip":
        return 16 + zlib.MAX_WBITS
    return zlib.MAX_WBITS if body[:1] and body[0] & 0xF == _ZLIB_METHOD else -zlib.MAX_WBITS
