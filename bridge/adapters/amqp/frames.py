"""Filters the frames between the socket and the AMQP library.

Incoming: the library decodes properties strictly inside the connection's reader, so one short string that is not UTF-8,
or one time beyond the year 9999, ends the connection before the bridge sees the message, and again at each redelivery.
The reader here removes what the library cannot decode and records it in a header, and the consumer refuses the message.

Outgoing: no frame is sent on a channel that the broker has closed.
"""

import asyncio
import struct
from collections.abc import Iterator
from typing import Any, cast

from aio_pika import Connection
from aio_pika.abc import ConnectionParameter
from aiormq import TransportFactory
from aiormq.connection import TCPTransportFactory, TLSTransportFactory
from pamqp import decode
from pamqp.commands import Basic
from pamqp.header import ContentHeader
from yarl import URL

from bridge.adapters.amqp.memory import MessageMemory

UNREADABLE = "x-bridge-unreadable"
"""The header that names what was removed."""

_FRAME = struct.Struct(">BHI")  # type, channel, size
_METHOD_FRAME = struct.Struct(">BHI4s")  # followed by class and method
_LONG = struct.Struct(">Q")  # a delivery tag, and the size of a body
_METHOD, _HEADER = 1, 2
_DELIVER, _GET_OK = b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x47"  # class 60, methods 60 and 71
_OPEN, _CLOSE_OK = b"\x00\x14\x00\x0a", b"\x00\x14\x00\x29"  # class 20, methods 10 and 41
_FIXED = 12  # bytes of a content header before the flags: class, weight, body size
_NAMES = {"message_type": "type"}  # where the library has a name of its own
_MAX_NOTE = 500  # bytes
_READ_AT_ONCE = 65_536  # bytes, which are many small frames


class SanitizingReader:
    """The stream reader that the library reads from: it yields sanitized frames.

    It waits at the content header of a message until memory for it is free. Nothing that frees memory waits for frames.
    It reads ahead, at most `_READ_AT_ONCE` bytes.
    """

    def __init__(self, reader: asyncio.StreamReader, memory: MessageMemory) -> None:
        self._reader = reader
        self._memory = memory
        self._tags: dict[int, int] = {}  # by channel: the delivery tag in the method before a content header
        self._frame = b""  # sanitized, or what is left of it
        self._ahead, self._at = b"", 0  # bytes read, and how many of them were used
        self._lost: dict[int, list[str]] = {}  # by channel: what was unreadable in the method before a content header

    def at_eof(self) -> bool:
        """Return whether the stream has ended."""
        return not self._frame and self._at == len(self._ahead) and self._reader.at_eof()

    async def read(self) -> bytes:
        """Return the rest; the library calls it only if what it read is not a frame."""
        return self._frame + self._ahead[self._at :] + await self._reader.read()

    async def readexactly(self, size: int) -> bytes:
        """Return the next bytes; raises the errors of the stream."""
        if not self._frame:
            self._frame = await self._next()
        taken, self._frame = self._frame[:size], self._frame[size:]
        return taken

    async def _next(self) -> bytes:
        head = await self._take(_FRAME.size)
        if head.startswith(b"AMQP"):  # the broker requires another version of the protocol
            return head
        kind, channel, size = _FRAME.unpack(head)
        body = await self._take(size + 1)
        if kind == _METHOD and body.startswith((_DELIVER, _GET_OK)):
            if body.startswith(_DELIVER):
                self._tags[channel] = _long_at(body, 5 + body[4])  # after the consumer tag
            body, self._lost[channel] = sanitized_method(body)
        elif kind == _HEADER:
            if (tag := self._tags.pop(channel, None)) is not None:
                await self._memory.admit(tag, _long_at(body, _FIXED - _LONG.size))
            body = sanitized_header(body[:-1], self._lost.pop(channel, [])) + body[-1:]
        return _FRAME.pack(kind, channel, len(body) - 1) + body

    async def _take(self, size: int) -> bytes:
        """Return the next bytes as they were sent."""
        while len(self._ahead) < self._at + size:
            more = await self._reader.read(_READ_AT_ONCE)
            if not more:
                raise asyncio.IncompleteReadError(self._ahead[self._at :], size)
            self._ahead, self._at = self._ahead[self._at :] + more, 0
        self._at += size
        return self._ahead[self._at - size : self._at]


class OpenChannelsWriter:
    """The stream writer that the library writes to: it drops frames for a channel that the broker has closed.

    The library acknowledges the close of a channel before it fails the publishers, and the broker would close the whole
    connection for a frame that arrives after that. All frames of one command are passed in one `write`.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._closed: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def write(self, data: bytes) -> None:
        """Write frames, unless their channel is closed."""
        if len(data) >= _METHOD_FRAME.size and not data.startswith(b"AMQP"):
            kind, channel, _, method = _METHOD_FRAME.unpack_from(data)
            if kind == _METHOD and method == _OPEN:
                self._closed.discard(channel)
            if channel in self._closed:
                return
            if kind == _METHOD and method == _CLOSE_OK:
                self._closed.add(channel)
        self._writer.write(data)


class SanitizingTransport(TransportFactory):
    """Connects as the library does, with a `SanitizingReader` and an `OpenChannelsWriter`."""

    def __init__(self, memory: MessageMemory) -> None:
        self._memory = memory

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; raises the errors of the library's transports."""
        transport = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await transport.create(url, **kwargs)
        return (
            cast("asyncio.StreamReader", SanitizingReader(reader, self._memory)),
            cast("asyncio.StreamWriter", OpenChannelsWriter(writer)),
        )


def sanitizing_connection(memory: MessageMemory) -> type[Connection]:
    """Return a subclass of the library's connection with this transport, which can only be set on the class."""

    class SanitizingConnection(Connection):
        PARAMETERS = (
            *Connection.PARAMETERS,
            ConnectionParameter("transport_factory", lambda _: SanitizingTransport(memory), "always", is_kwarg=False),
        )

    return SanitizingConnection


def sanitized_method(body: bytes) -> tuple[bytes, list[str]]:
    """Return a delivery with a decodable exchange and routing key, and what was replaced by question marks in them."""
    at = 4 if body.startswith(_GET_OK) else 5 + body[4]  # after the consumer tag
    at += 9  # after the delivery tag and the flag `redelivered`
    lost = []
    for name in ("exchange", "routing_key"):
        text = body[at + 1 : at + 1 + body[at]]
        if not _is_text(text):
            lost.append(_note(name, text))
            body = (
                body[: at + 1] + bytes(byte if byte < 0x80 else ord("?") for byte in text) + body[at + 1 + len(text) :]
            )
        at += 1 + len(text)
    return body, lost


def sanitized_header(payload: bytes, lost: list[str]) -> bytes:
    """Return a decodable content header; `lost`: what was removed from the method before it."""
    if not lost and _is_decodable(payload):
        return payload
    try:
        kept = _readable_properties(payload, lost)
    except Exception:  # noqa: BLE001  # untrusted bytes; the message must be passed on in any case
        kept, lost = {}, ["all properties"]
    sanitized = payload[:_FIXED] + _encode_properties(kept, "; ".join(lost))
    return sanitized if _is_decodable(sanitized) else payload[:_FIXED] + _encode_properties({}, "all properties")


def _is_decodable(payload: bytes) -> bool:
    try:
        ContentHeader().unmarshal(payload)
    except Exception:  # noqa: BLE001  # the library raises many kinds of errors, including RecursionError
        return False
    return True


def _readable_properties(payload: bytes, lost: list[str]) -> dict[str, bytes]:
    """Return the bytes of each decodable property. Raises `ValueError` if the payload ends too early."""
    (flags,) = struct.unpack_from(">H", payload, _FIXED)
    at, kept = _FIXED + 2, {}
    for name, flag in Basic.Properties.flags.items():
        if not flags & flag:
            continue
        kind = Basic.Properties.amqp_type(name)
        raw = _cut(payload, at, _size(kind, payload, at))
        at += len(raw)
        if kind == "table":
            kept[name] = b"".join(_readable_entries(raw, lost))
        elif _is_readable(kind, raw):
            kept[name] = raw
        else:
            lost.append(_note(_NAMES.get(name, name), raw[1:] if kind == "shortstr" else b""))
    return kept


def _readable_entries(table: bytes, lost: list[str]) -> Iterator[bytes]:
    """Yield the decodable entries of a table up to the first value that cannot be decoded: its size is unknown."""
    at = 4
    while at < len(table):
        name, start = _cut(table, at + 1, table[at]), at
        at += 1 + len(name)
        try:
            entry = _cut(table, start, at - start + decode.embedded_value(table[at:])[0])
        except Exception:  # noqa: BLE001  # as above
            lost.append(_note("headers from", name))
            return
        at = start + len(entry)
        if _is_text(name):
            yield entry
        else:
            lost.append(_note("header", name))


def _size(kind: str, data: bytes, at: int) -> int:
    """Return the bytes of a property."""
    if kind == "shortstr":
        return 1 + _cut(data, at, 1)[0]
    return 4 + int.from_bytes(_cut(data, at, 4), "big") if kind == "table" else {"octet": 1, "timestamp": 8}[kind]


def _long_at(data: bytes, at: int) -> int:
    found: int = _LONG.unpack_from(data, at)[0]
    return found


def _cut(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("ends too early")
    return data[at : at + size]


def _encode_properties(kept: dict[str, bytes], note: str) -> bytes:
    """Encode flags and properties, with the note as the header `UNREADABLE`."""
    name, text = UNREADABLE.encode(), note.encode()[:_MAX_NOTE]
    table = kept.get("headers", b"") + bytes([len(name)]) + name + b"S" + struct.pack(">I", len(text)) + text
    kept = {**kept, "headers": struct.pack(">I", len(table)) + table}
    names = [name for name in Basic.Properties.flags if name in kept]
    flags = sum(Basic.Properties.flags[name] for name in names)
    return struct.pack(">H", flags) + b"".join(kept[name] for name in names)


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_readable(kind: str, raw: bytes) -> bool:
    try:
        decode.by_type(raw, kind)
    except (ValueError, OverflowError, OSError):
        return False
    return True


def _note(name: str, raw: bytes) -> str:
    """Describe bytes that are not text, in ASCII."""
    shown = raw[:40].decode("ascii", "backslashreplace")
    return f"{name} {shown}".rstrip()
