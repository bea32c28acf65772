"""Frames that the AMQP library cannot decode are repaired before it reads them."""

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.header import ContentHeader

from bridge.adapters.amqp.frames import UNREADABLE, SanitizingReader, sanitized_header, sanitized_method
from bridge.adapters.amqp.memory import MessageMemory
from tests.raw_frames import ODD, POISON, entry, header, short, table, text


def read(payload: bytes) -> ContentHeader:
    """Decode with the library; raise what it raises."""
    found = ContentHeader()
    found.unmarshal(payload)
    return found


@pytest.mark.parametrize("name", POISON)
def test_an_unreadable_property_is_removed_and_noted(name: str):
    payload = header({"user_id": short(b"u"), **POISON[name]}, size=7)
    with pytest.raises(Exception):  # noqa: B017, PT011  # all kinds
        read(payload)
    sanitized = read(sanitized_header(payload, []))
    assert sanitized.body_size == 7
    assert sanitized.properties.user_id == "u"
    assert sanitized.properties.headers is not None
    assert sanitized.properties.headers[UNREADABLE]


@pytest.mark.parametrize("name", ODD)
def test_a_readable_frame_is_unchanged(name: str):
    payload = header(ODD[name])
    assert sanitized_header(payload, []) == payload


def test_readable_properties_beside_unreadable_ones_are_kept():
    headers = table(
        entry(b"a", b"S", text(b"x")),
        entry(b"\xff", b"t", b"\x01"),
        entry(b"b", b"I", b"\x00\x00\x00\x05"),
        entry(b"when", b"T", b"\xff" * 8),
    )
    payload = header({"content_type": short(b"\xffjson"), "headers": headers, "message_id": short(b"order-7")})
    properties = read(sanitized_header(payload, [])).properties
    assert (properties.content_type, properties.message_id) == (None, "order-7")
    assert properties.headers == {
        "a": "x",
        "b": 5,
        UNREADABLE: "content_type \\xffjson; header \\xff; headers from when",
    }


@pytest.mark.parametrize(
    "payload",
    [
        header({}) + b"",
        header({"headers": table(entry(b"a", b"?", b""), entry(b"b", b"V", b""))}),
        header({"headers": b"\x00\x00\xff\xff"}),
        header({"message_id": b"\xff"}),
        header({"message_id": b""}),
        header({"headers": table(b"\x05a")}),
        header({"timestamp": b"\x00"}),
        header({})[:12] + b"\x00\x01",
        header({})[:12],
    ],
)
def test_invalid_properties_cost_no_message(payload: bytes):
    read(sanitized_header(payload, []))


def test_an_invalid_routing_key_is_removed():
    """It precedes the content header, which then contains the note."""
    deliver = b"\x00\x3c\x00\x3c" + short(b"tag") + b"\x00" * 9 + short(b"kickoff.requests") + short(b"re\xffsearch")
    body, lost = sanitized_method(deliver)
    assert body == deliver.replace(b"\xff", b"?")
    got = b"\x00\x3c\x00\x47" + b"\x00" * 9 + short(b"\xfe") + short(b"research") + b"\x00\x00\x00\x01"
    assert sanitized_method(got)[0] == got.replace(b"\xfe", b"?")
    assert lost == ["routing_key re\\xffsearch"]
    properties = read(sanitized_header(header({}), lost)).properties
    assert properties.headers == {UNREADABLE: "routing_key re\\xffsearch"}


@given(st.binary(max_size=60), st.integers(0, 0xFFFF))
def test_any_bytes_become_readable(properties: bytes, flags: int):
    read(sanitized_header(struct.pack(">HHQH", 60, 0, 1, flags) + properties, []))


async def test_the_reader_passes_on_frames_in_pieces():
    """As the library reads them: one byte, six, the rest; every valid frame byte for byte."""
    source = asyncio.StreamReader()
    bad = header({"type": short(b"\xff")})
    frames = [
        struct.pack(">BHI", 8, 0, 0) + b"\xce",
        struct.pack(">BHI", 2, 1, len(header({}))) + header({}) + b"\xce",
        struct.pack(">BHI", 3, 1, 2) + b"{}\xce",
        struct.pack(">BHI", 2, 1, len(bad)) + bad + b"\xce",
    ]
    source.feed_data(b"".join(frames))
    source.feed_eof()
    reader = SanitizingReader(source, MessageMemory())
    for frame in frames[:3]:
        assert not reader.at_eof()
        assert await reader.readexactly(1) + await reader.readexactly(6) == frame[:7]
        assert await reader.readexactly(len(frame) - 7) == frame[7:]
    head = await reader.readexactly(7)
    payload = await reader.readexactly(struct.unpack(">BHI", head)[2] + 1)
    assert payload.endswith(b"\xce")
    assert read(payload[:-1]).properties.headers == {UNREADABLE: "type \\xff"}
    assert reader.at_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await reader.readexactly(1)


async def test_another_protocol_version_is_left_to_the_library():
    source = asyncio.StreamReader()
    source.feed_data(b"AMQP\x00\x01\x00\x00")
    source.feed_eof()
    reader = SanitizingReader(source, MessageMemory())
    assert await reader.readexactly(1) + await reader.readexactly(6) == b"AMQP\x00\x01\x00"
    assert await reader.read() == b"\x00"


async def test_a_body_is_not_read_until_memory_is_free():
    """The content header announced the size of the message before it, which is in memory."""
    source, memory = asyncio.StreamReader(), MessageMemory(limit=100)
    reader = SanitizingReader(source, memory)
    frames = [delivery(7), content(70), delivery(8), content(80)]
    source.feed_data(b"".join(frames))
    for frame in frames[:3]:
        assert await reader.readexactly(7) + await reader.readexactly(len(frame) - 7) == frame
    stalled = asyncio.create_task(reader.readexactly(7))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not stalled.done()
    assert memory.held == 70
    memory.release(7)
    assert await stalled == frames[3][:7]
    assert memory.held == 80


def delivery(tag: int) -> bytes:
    method = b"\x00\x3c\x00\x3c" + short(b"consumer") + struct.pack(">Q?", tag, False) + short(b"") + short(b"queue")
    return struct.pack(">BHI", 1, 1, len(method)) + method + b"\xce"


def content(size: int) -> bytes:
    payload = header({}, size)
    return struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce"
