"""No frame leaves for a channel that the broker has closed, because the broker would close the whole connection.

The library acknowledges the end of a channel a few steps before it fails those who publish on it, who go on until then.
"""

import asyncio
import struct
from typing import Any

_FRAME = struct.Struct(">BHI4s")  # type, channel, size, and of a method frame: class and method
_METHOD = 1
_OPEN, _CLOSE_OK = b"\x00\x14\x00\x0a", b"\x00\x14\x00\x29"  # class 20, methods 10 and 41


class OpenChannelsWriter:
    """A stream writer for a library that writes all frames of a channel's command together."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._closed: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def write(self, data: bytes) -> None:
        """Write frames, unless their channel is closed."""
        if len(data) >= _FRAME.size and not data.startswith(b"AMQP"):
            kind, channel, _, method = _FRAME.unpack_from(data)
            if kind == _METHOD and method == _OPEN:
                self._closed.discard(channel)
            if channel in self._closed:
                return
            if kind == _METHOD and method == _CLOSE_OK:
                self._closed.add(channel)
        self._writer.write(data)
