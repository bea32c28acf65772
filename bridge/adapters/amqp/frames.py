"""Removes what the AMQP library cannot decode from incoming frames, and records it in a header.

The library decodes properties inside the connection's reader, and strictly: one short string that is not UTF-8, or one
time beyond the year 9999, ends the connection before any code of ours sees the message, and again at each redelivery.
So the reader below stands between the socket and the library. It passes on what can be read; of the rest it leaves out
what cannot, and says so in a header of the message, by which the consumer refuses it.
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
from pamqp.header import ContentHeader
from yarl import URL

from bridge.adapters.amqp.memory import MessageMemory
from bridge.adapters.amqp.writes import OpenChannelsWriter

UNREADABLE = "x-bridge-unreadable"
"""The header that names what was left out, as far as it can be shown."""

_FRAME = struct.Struct(">BHI")  # type, channel, size
_LONG = struct.Struct(">Q")  # a delivery tag, and the size of a body
_METHOD, _HEADER = 1, 2
_DELIVER, _GET_OK = b"\x00\x3c\x00\x3c", b"\x00\x3c\x00\x47"  # class 60, methods 60 and 71
_FIXED = 12  # bytes of a content header before the flags: class, weight, body size
_PROPERTIES = (  # in the order of their flags, which begin at the highest bit
    ("content_type", "short"),
    ("content_encoding", "short"),
    ("headers", "table"),
    ("delivery_mode", "octet"),
    ("priority", "octet"),
    ("correlation_id", "short"),
    ("reply_to", "short"),
    ("expiration", "short"),
    ("message_id", "short"),
    ("timestamp", "time"),
    ("type", "short"),
    ("user_id", "short"),
    ("app_id", "short"),
    ("cluster_id", "short"),
)
_SIZES = {
    "\0": 0,
    "V": 0,
    "t": 1,
    "b": 1,
    "B": 1,
    "s": 2,
    "u": 2,
    "I": 4,
    "i": 4,
    "f": 4,
    "D": 5,
    "l": 8,
    "L": 8,
    "d": 8,
    "T": 8,
}
_COUNTED = "SxAF"  # four bytes of size, then so many bytes
_LONGEST_NOTE = 500  # bytes


class SanitizingReader:
    """The stream reader that the library reads from: one sanitized frame after the other.

    It stops at the content header of a message for which there is no room. Nothing that makes room waits for frames.
    """

    def __init__(self, reader: asyncio.StreamReader, memory: MessageMemory) -> None:
        self._reader = reader
        self._memory = memory
        self._tags: dict[int, int] = {}  # by channel: the delivery tag in the method before a content header
        self._frame = b""
        self._lost: dict[int, list[str]] = {}  # by channel: what was unreadable in the method before a content header

    def at_eof(self) -> bool:
        """Whether nothing more will come."""
        return not self._frame and self._reader.at_eof()

    async def read(self) -> bytes:
        """The rest; asked for by the library only when what it read is no frame."""
        return self._frame + await self._reader.read()

    async def readexactly(self, size: int) -> bytes:
        """The next bytes; raises what the stream raises."""
        if not self._frame:
            self._frame = await self._next()
        taken, self._frame = self._frame[:size], self._frame[size:]
        return taken

    async def _next(self) -> bytes:
        head = await self._reader.readexactly(_FRAME.size)
        if head.startswith(b"AMQP"):  # the broker wants another version of the protocol
            return head
        kind, channel, size = _FRAME.unpack(head)
        body = await self._reader.readexactly(size + 1)
        if kind == _METHOD and body.startswith((_DELIVER, _GET_OK)):
            if body.startswith(_DELIVER):
                self._tags[channel] = _long_at(body, 5 + body[4])  # behind the consumer's tag
            body, self._lost[channel] = sanitized_method(body)
        elif kind == _HEADER:
            if (tag := self._tags.pop(channel, None)) is not None:
                await self._memory.arriving(tag, _long_at(body, _FIXED - _LONG.size))
            body = sanitized_header(body[:-1], self._lost.pop(channel, [])) + body[-1:]
        return _FRAME.pack(kind, channel, len(body) - 1) + body


class SanitizingTransport(TransportFactory):
    """Connects as the library does, reads by a `SanitizingReader` and writes by an `OpenChannelsWriter`."""

    def __init__(self, memory: MessageMemory) -> None:
        self._memory = memory

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect; raises what the library's own transports raise."""
        transport = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await transport.create(url, **kwargs)
        return (
            cast("asyncio.StreamReader", SanitizingReader(reader, self._memory)),
            cast("asyncio.StreamWriter", OpenChannelsWriter(writer)),
        )


def sanitizing_connection(memory: MessageMemory) -> type[Connection]:
    """Return the library's connection, with our transport; it can only be set on the class."""

    class SanitizingConnection(Connection):
        PARAMETERS = (
            *Connection.PARAMETERS,
            ConnectionParameter("transport_factory", lambda _: SanitizingTransport(memory), "always", is_kwarg=False),
        )

    return SanitizingConnection


def sanitized_method(body: bytes) -> tuple[bytes, list[str]]:
    """A delivery whose exchange and routing key can be read, and what could not; question marks stand for that."""
    at = 4 if body.startswith(_GET_OK) else 5 + body[4]  # behind the consumer's tag
    at += 9  # behind the delivery tag and whether it was redelivered
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
    """A content header that can be read; `lost`: what was unreadable before it."""
    if not lost and _can_be_read(payload):
        return payload
    try:
        kept = _readable_properties(payload, lost)
    except Exception:  # noqa: BLE001  # untrusted bytes: whatever goes wrong, the message must come through
        kept, lost = {}, ["all properties"]
    mended = payload[:_FIXED] + _written(kept, "; ".join(lost))
    return mended if _can_be_read(mended) else payload[:_FIXED] + _written({}, "all properties")


def _can_be_read(payload: bytes) -> bool:
    try:
        ContentHeader().unmarshal(payload)
    except Exception:  # noqa: BLE001  # the library raises errors of all kinds, a recursion that is too deep among them
        return False
    return True


def _readable_properties(payload: bytes, lost: list[str]) -> dict[str, bytes]:
    """Each property as its bytes, unless those cannot be read. Raises `ValueError` if they end too early."""
    (flags,) = struct.unpack_from(">H", payload, _FIXED)
    at = _FIXED + 2
    kept = {}
    for place, (name, kind) in enumerate(_PROPERTIES):
        if flags >> (15 - place) & 1:
            raw = _cut(payload, at, _property_size(kind, payload, at))
            at += len(raw)
            if kind == "table":
                kept[name] = b"".join(_readable_entries(raw, lost))
            elif kind == "short" and not _is_text(raw[1:]):
                lost.append(_note(name, raw[1:]))
            elif kind == "time" and not _is_time(raw):
                lost.append(name)
            else:
                kept[name] = raw
    return kept


def _readable_entries(table: bytes, lost: list[str]) -> Iterator[bytes]:
    """The entries of a table that can be read; a value of unknown size loses all that follow it."""
    at = 4
    while at < len(table):
        name = _cut(table, at + 1, table[at])
        start, at = at, at + 1 + len(name)
        try:
            at += 1 + _value_size(chr(table[at]), table, at + 1)
            decode.embedded_value(_cut(table, start + 1 + len(name), at - start - 1 - len(name)))
        except KeyError:
            lost.append("headers")
            return
        except Exception:  # noqa: BLE001  # as above
            lost.append(_note("header", name))
            continue
        if _is_text(name):
            yield table[start:at]
        else:
            lost.append(_note("header", name))


def _property_size(kind: str, data: bytes, at: int) -> int:
    if kind == "short":
        return 1 + _cut(data, at, 1)[0]
    return {"octet": 1, "time": 8}.get(kind) or 4 + _long(data, at)


def _value_size(kind: str, data: bytes, at: int) -> int:
    """How many bytes a value in a table takes; raises `KeyError` for a kind that AMQP does not know."""
    return 4 + _long(data, at) if kind in _COUNTED else _SIZES[kind]


def _long(data: bytes, at: int) -> int:
    return int.from_bytes(_cut(data, at, 4), "big")


def _long_at(data: bytes, at: int) -> int:
    found: int = _LONG.unpack_from(data, at)[0]
    return found


def _cut(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("ends too early")
    return data[at : at + size]


def _written(kept: dict[str, bytes], note: str) -> bytes:
    """Flags and properties; the note goes into the table of headers."""
    name, text = UNREADABLE.encode(), note.encode()[:_LONGEST_NOTE]
    table = kept.get("headers", b"") + bytes([len(name)]) + name + b"S" + struct.pack(">I", len(text)) + text
    kept = {**kept, "headers": struct.pack(">I", len(table)) + table}
    flags = sum(1 << (15 - place) for place, (name, _) in enumerate(_PROPERTIES) if name in kept)
    return struct.pack(">H", flags) + b"".join(kept[name] for name, _ in _PROPERTIES if name in kept)


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_time(raw: bytes) -> bool:
    try:
        decode.timestamp(raw)
    except (ValueError, OverflowError, OSError):
        return False
    return True


def _note(name: str, raw: bytes) -> str:
    """Describe bytes that are not text, in ASCII."""
    shown = raw[:40].decode("ascii", "backslashreplace")
    return f"{name} {shown}"
