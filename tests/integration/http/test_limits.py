"""Clients that are slow, large, numerous, or not HTTP clients at all; read from raw sockets."""

import asyncio
import contextlib
import gzip
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from aiohttp import set_zlib_backend
from structlog.testing import capture_logs

from tests.http_client import BODY, LISTEN, Bridge, bearer, problem, serving
from tests.patience import PATIENCE

SMALL = replace(LISTEN, max_body=10_000, max_connections=3)
TIGHT = replace(SMALL, head_seconds=0.2, body_seconds=0.2)
"""For responses that never come; those that do may be late on a busy machine."""
TOKEN = f"Authorization: {bearer('submitter')['Authorization']}\r\n".encode()
POST = b"POST /v1/runs HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n" + TOKEN
GET = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with serving(SMALL) as served, asyncio.timeout(PATIENCE):
        yield served


@pytest.fixture
async def hasty() -> AsyncIterator[Bridge]:
    """A bridge with short timeouts for heads and bodies."""
    async with serving(TIGHT) as served, asyncio.timeout(PATIENCE):
        yield served


@pytest.mark.parametrize("head", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: h\r\n", b"\r\n\r\n"])
async def test_an_endless_head_times_out(hasty: Bridge, head: bytes) -> None:
    assert await hasty.raw(head) == b""


async def test_a_slowly_sent_head_times_out(hasty: Bridge) -> None:
    """The deadline is for the whole head: single bytes do not extend it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port)
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    sent = 0
    closed = asyncio.create_task(reader.read())
    while not closed.done():
        writer.write(b"x")
        sent += 1
        await asyncio.wait({closed}, timeout=0.02)
    with contextlib.suppress(ConnectionResetError):  # a byte in flight when the server closed
        assert closed.result() == b""
    assert sent > 2
    writer.close()


async def test_a_later_head_has_a_deadline_too(hasty: Bridge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port)
    writer.write(GET)
    await reader.readuntil(b'"alive"}')
    writer.write(b"GET /heal")
    assert await reader.read() == b""
    writer.close()


async def test_an_idle_connection_outlives_the_deadline_for_heads(hasty: Bridge) -> None:
    """Between two requests, a client may be idle for the keep-alive time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port)
    for _ in range(2):
        writer.write(GET)
        await reader.readuntil(b'"alive"}')
        idle = asyncio.create_task(reader.read(1))
        await asyncio.wait({idle}, timeout=2 * TIGHT.head_seconds)
        assert not idle.done(), "the server closed an idle connection"
        idle.cancel()
        await asyncio.gather(idle, return_exceptions=True)
    writer.close()


async def test_an_idle_connection_is_closed_in_the_end() -> None:
    async with serving(replace(SMALL, keepalive_seconds=0.1)) as bridge, asyncio.timeout(PATIENCE):
        assert (await bridge.raw(GET)).endswith(b'"alive"}')


async def test_pipelined_requests_are_all_answered(bridge: Bridge) -> None:
    responses = await bridge.raw(GET * 3 + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert responses.count(b'"alive"}') == 4


async def test_a_missing_body_is_408(hasty: Bridge) -> None:
    response = await hasty.raw(POST + b"Content-Length: 100\r\n\r\n{")
    assert b" 408 " in response.partition(b"\r\n")[0]
    assert b'"code":"request_timeout"' in response


async def test_a_slowly_sent_body_is_408(hasty: Bridge) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty.port)
    writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    head = asyncio.create_task(reader.readline())
    while not head.done():
        writer.write(b"1\r\n \r\n")
        await asyncio.wait({head}, timeout=0.02)
    assert b" 408 " in head.result()
    writer.close()


async def test_a_client_that_disconnects_during_a_request_is_not_an_error(bridge: Bridge) -> None:
    with capture_logs() as logs:
        _, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        writer.write(POST + b"Content-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        while not any(line["event"] == "http_request_completed" for line in logs):
            await bridge.raw(b"x\r\n\r\n")
    assert not bridge.accept.seen
    assert {line["log_level"] for line in logs} == {"debug"}


async def test_the_largest_body_is_accepted_and_one_more_byte_is_not(bridge: Bridge) -> None:
    for size, status in ((SMALL.max_body, 202), (SMALL.max_body + 1, 413)):
        body = b'{"crew":"research"' + b" " * (size - 19) + b"}"
        assert len(body) == size
        headers = {"Content-Type": "application/json", **bearer("submitter")}
        response = await bridge.http.post(bridge.url("/v1/runs"), data=body, headers=headers)
        assert response.status == status


async def test_a_body_that_announces_too_much_is_refused_unread(bridge: Bridge) -> None:
    response = await bridge.raw(POST + b"Connection: close\r\nContent-Length: 999999999\r\n\r\n")
    assert b'"code":"too_large"' in response


async def test_a_body_without_a_length_is_counted_while_it_is_read(bridge: Bridge) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 1000

    headers = {"Content-Type": "application/json", **bearer("submitter")}
    response = await bridge.http.post(bridge.url("/v1/runs"), data=chunks(), headers=headers)
    document = await problem(response, 413, "too_large")
    assert "10000 bytes" in document["detail"]


async def test_a_gzip_bomb_is_measured_by_its_decompressed_size(bridge: Bridge) -> None:
    """Ten megabytes of spaces are ten kilobytes on the wire, below the limit."""
    bomb = gzip.compress(b" " * 9_000_000)
    assert len(bomb) < SMALL.max_body
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", **bearer("submitter")}
    response = await bridge.http.post(bridge.url("/v1/runs"), data=bomb, headers=headers)
    await problem(response, 413, "too_large")


class Inflated:
    """zlib as the HTTP library uses it, with a count of the decompressed bytes."""

    def __init__(self) -> None:
        self.size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(zlib, name)

    def decompressobj(self, *args: Any, **named: Any) -> Any:
        stream = zlib.decompressobj(*args, **named)
        counted = Mock(wraps=stream)

        def decompress(*given: Any, **also: Any) -> bytes:
            content = stream.decompress(*given, **also)
            self.size += len(content)
            return content

        counted.decompress = decompress
        return counted


@pytest.fixture
def inflated() -> Iterator[Inflated]:
    counting = Inflated()
    set_zlib_backend(counting)
    yield counting
    set_zlib_backend(zlib)


@pytest.mark.parametrize(
    "line", ["POST /v1/runs", "PUT /v1/runs", "GET /nowhere", "POST /hooks/none", "POST /amp/none/crew", "GET /healthz"]
)
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_nothing_is_decompressed_for_unauthenticated_callers(inflated: Inflated, line: str, coding: str) -> None:
    """0.6 MB on any path blocked the event loop for 0.6 s: 300 MiB were inflated after the 401 or 404 was sent."""
    bomb = gzip.compress(b" " * 50_000_000) if coding == "gzip" else zlib.compress(b" " * 50_000_000)
    head = f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Encoding: {coding}\r\n"
    async with serving(LISTEN) as bridge, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        # One byte is missing, so that the rest would be read after the response.
        writer.write(f"{head}Content-Length: {len(bomb) + 1}\r\n\r\n".encode() + bomb)
        response = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"x")
        while await reader.read(4096):
            pass
        writer.close()
    assert b"Connection: close" in response
    assert inflated.size == 0


async def test_the_rest_of_a_refused_body_is_discarded_and_limited() -> None:
    """A client that is still sending reads its 401; one that never stops is disconnected."""
    async with serving(LISTEN) as bridge, asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        writer.write(b"POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n")
        assert b" 401 " in await reader.readuntil(b"\r\n\r\n")
        sent = 0
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b" " * 65_536)
                await writer.drain()
                sent += 65_536
        writer.close()
    assert sent < 100_000_000  # what the buffers of the system hold, far less than was announced


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "deflate, gzip", "nonsense"])
async def test_unknown_and_nested_codings_are_415(bridge: Bridge, coding: str) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding, **bearer("submitter")}
    response = await bridge.http.post(bridge.url("/v1/runs"), data=b"x", headers=headers)
    document = await problem(response, 415, "unsupported_media_type")
    assert "gzip" in document["detail"]
    assert response.headers["Accept-Encoding"] == "gzip, deflate"


async def test_two_coding_headers_are_nested_codings(bridge: Bridge) -> None:
    response = await bridge.raw(
        POST + b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
    )
    assert response.split(b" ")[1] == b"415"


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "identity", "", "identity, gzip"])
async def test_a_compressed_body_is_read(bridge: Bridge, coding: str) -> None:
    body = orjson.dumps(BODY)
    if "gzip" in coding.lower():
        body = gzip.compress(body)
    elif coding == "deflate":
        body = zlib.compress(body)
    headers = {"Content-Type": "application/json", "Content-Encoding": coding, **bearer("submitter")}
    response = await bridge.http.post(bridge.url("/v1/runs"), data=body, headers=headers)
    assert response.status == 202


@pytest.mark.parametrize(
    "body", [b"{}", gzip.compress(b"{}")[:-1], gzip.compress(b"{}") * 2], ids=["plain", "cut off", "two members"]
)
async def test_a_body_not_encoded_as_announced_is_400(bridge: Bridge, body: bytes) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", **bearer("submitter")}
    response = await bridge.http.post(bridge.url("/v1/runs"), data=body, headers=headers)
    await problem(response, 400, "bad_request")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX-Token: hush\x00\r\n\r\n", b"400"),
    ],
)
async def test_invalid_http_is_answered_with_a_problem(bridge: Bridge, sent: bytes, status: bytes) -> None:
    """Its text is neither returned nor logged: a broken header may be the one with the token."""
    with capture_logs() as logs:
        response = await bridge.raw(sent)
    assert response.split(b" ")[1] == status
    assert b"application/problem+json" in response
    assert b"hush" not in response
    assert "hush" not in str(logs)


@pytest.mark.parametrize("line", [b"POST /v1/runs", b"PUT /v1/runs", b"GET /nowhere"])
@pytest.mark.parametrize("expected", [b"miracles", b"\xff\xfe"])
async def test_an_unsupported_expectation_is_reported(bridge: Bridge, line: bytes, expected: bytes) -> None:
    """Including one that is not text, for which the library responded with 500."""
    response = await bridge.raw(
        line + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\nExpect: " + expected + b"\r\n\r\n"
    )
    assert response.split(b" ")[1] == b"417"
    assert b"application/problem+json" in response


async def test_an_upload_may_expect_100_continue(bridge: Bridge) -> None:
    response = await bridge.http.post(bridge.url("/v1/runs"), json=BODY, headers=bearer("submitter"), expect100=True)
    assert response.status == 202
