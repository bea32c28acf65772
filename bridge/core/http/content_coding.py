"""Decompress HTTP bodies up to a size limit."""

import zlib

_ZLIB_METHOD = 8  # low bits of the first byte of a zlib header, which some senders omit in `deflate`


def inflate(body: bytes, coding: str, limit: int) -> bytes | None:
    """Decompress a `gzip` or `deflate` body; return None if the content exceeds `limit` bytes.

    Raises `ValueError` unless the body is exactly one complete stream: further gzip members are refused, because even
    an empty one costs time.
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
    """Return the `wbits` argument of zlib, which selects the expected header."""
    if coding == "gzip":
        return 16 + zlib.MAX_WBITS
    return zlib.MAX_WBITS if body[:1] and body[0] & 0xF == _ZLIB_METHOD else -zlib.MAX_WBITS
