"""Messages that no library would write: properties as bytes, published as raw frames."""

import struct
from collections.abc import Mapping
from dataclasses import replace

import aiormq
from aio_pika.abc import AbstractChannel
from aiormq.abc import ChannelFrame
from pamqp import commands as spec
from pamqp.body import ContentBody

FLAGS = {name.replace("message_type", "type"): flag for name, flag in spec.Basic.Properties.flags.items()}


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def table(*entries: bytes) -> bytes:
    joined = b"".join(entries)
    return struct.pack(">I", len(joined)) + joined


def entry(name: bytes, kind: bytes, value: bytes) -> bytes:
    return short(name) + kind + value


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def nested(levels: int) -> bytes:
    """Tables within tables."""
    inner = b""
    for _ in range(levels):
        inner = entry(b"n", b"F", table(inner))
    return table(inner)


def header(properties: Mapping[str, bytes], size: int = 0) -> bytes:
    """The payload of a content header."""
    names = [name for name in FLAGS if name in properties]
    flags = sum(FLAGS[name] for name in names)
    return struct.pack(">HHQH", 60, 0, size, flags) + b"".join(properties[name] for name in names)


async def publish_raw(
    channel: AbstractChannel, properties: Mapping[str, bytes], body: bytes = b"{}", exchange: str = "", key: bytes = b""
) -> None:
    """Publish a message with exactly these bytes; the broker may close the connection.

    On a channel of its own: the library does not count it, and would take its confirm for that of another.
    """
    underlay = await channel.get_underlay_channel()
    assert isinstance(underlay, aiormq.Channel)
    place = "k" * len(key)
    frame = ChannelFrame.marshall(underlay.number, [spec.Basic.Publish(exchange=exchange, routing_key=place)])
    method = frame.payload.replace(short(place.encode()), short(key)) if key else frame.payload
    payload = header({"delivery_mode": b"\x02", **properties}, len(body))
    content = struct.pack(">BHI", 2, underlay.number, len(payload)) + payload + b"\xce"
    bodies = ChannelFrame.marshall(underlay.number, [ContentBody(body)]).payload
    await underlay.write_queue.put(replace(frame, payload=method + content + bodies))


POISON: dict[str, dict[str, bytes]] = {
    "content_type": {"content_type": short(b"\xff\xfe")},
    "content_encoding": {"content_encoding": short(b"\xc3")},
    "correlation_id": {"correlation_id": short(b"\x80")},
    "reply_to": {"reply_to": short(b"reply.\xff")},
    "expiration": {"headers": table(), "app_id": short(b"\xfe")},
    "message_id": {"message_id": short(b"order-\xf0\x28\x8c\x28")},
    "type": {"type": short(b"\xed\xa0\x80")},
    "timestamp": {"timestamp": struct.pack(">Q", 2**63)},
    "year 10000": {"timestamp": struct.pack(">Q", 253_402_300_800_000)},
    "header's name": {"headers": table(entry(b"\xff", b"S", text(b"x")), entry(b"kept", b"S", text(b"y")))},
    "time in a header": {"headers": table(entry(b"when", b"T", struct.pack(">Q", 2**63)))},
    "name in a nested table": {"headers": table(entry(b"in", b"F", table(entry(b"\xff", b"V", b""))))},
    "time in an array": {"headers": table(entry(b"all", b"A", table(b"T" + struct.pack(">Q", 2**62))))},
    "nested tables": {"headers": nested(2000)},
}
"""Properties that the broker accepts and the library cannot decode."""

ODD: dict[str, dict[str, bytes]] = {
    "header's value": {"headers": table(entry(b"tenant", b"S", text(b"\xff\xfe")))},
    "milliseconds": {"timestamp": struct.pack(">Q", 1_795_000_000_000)},
    "empty texts": {"content_type": short(b""), "type": short(b""), "reply_to": short(b"")},
    "other kinds": {
        "headers": table(
            entry(b"f", b"d", struct.pack(">d", 1e308)),
            entry(b"d", b"D", b"\x02\x00\x00\x00\x07"),
            entry(b"b", b"x", text(b"\x00\xff")),
            entry(b"v", b"V", b""),
            entry(b"l", b"l", struct.pack(">q", -(2**63))),
        )
    },
}
"""Properties that are unusual but valid."""
