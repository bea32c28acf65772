"""Responses that violate HTTP, byte for byte from a raw socket, to every client of crews and receivers.

The status counts as soon as its line is complete, and for a crew any part of the body that is a complete JSON object.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver

from bridge.adapters.callbacks.sender import CallbackSender, SigningSecrets, callback_sessions
from bridge.adapters.crew_api import LIMITS, HttpCrewApi, crew_sessions
from bridge.core.crew.inputs import ListedInputs
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.responses import (
    CrewUnavailable,
    InDoubt,
    NotFound,
    NotStarted,
    Refused,
    Resumed,
    Started,
    Succeeded,
)
from bridge.core.delivery.model import Channel, Destination
from bridge.core.delivery.outcome import Confirmed, Retryable, Undeliverable
from tests.fakes import a_delivery
from tests.tcp_server import tcp_server

TIME_LIMIT = 4.0
FAST = replace(LIMITS, kickoff=TIME_LIMIT, status=TIME_LIMIT, inputs=TIME_LIMIT, response=64 * 1024)


@dataclass
class RawServer:
    """Reads a request, then sends these segments; `hang`: leaves the connection open."""

    segments: Sequence[bytes] = ()
    hang: bool = False
    requests: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            self.requests += 1
            for segment in self.segments:
                writer.write(segment)
                await writer.drain()
                await asyncio.sleep(0)  # so that the peer may receive them one by one
            if self.hang:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_server() -> AsyncIterator[RawServer]:
    raw = RawServer()
    async with tcp_server(raw.serve) as raw.port:
        yield raw


@dataclass(frozen=True)
class Fault:
    """One way to break a response: (status line, JSON body) → segments. `whole`: the body can still be read."""

    name: str
    segments: Callable[[bytes, bytes], Sequence[bytes]]
    whole: bool
    hang: bool = False


def length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


def at_once(*parts: bytes) -> Sequence[bytes]:
    return [b"".join(parts)]


BROKEN = [
    Fault("a header of 9 KiB", lambda s, b: at_once(s, b"X-A: ", b"a" * 9216, b"\r\n", length(b), b"\r\n", b), True),
    Fault("a header of 300 KiB", lambda s, b: at_once(s, b"X-A: ", b"a" * 300_000, b"\r\n", length(b), b"\r\n", b), True),  # noqa: E501
    Fault("150 headers", lambda s, b: at_once(s, b"X-A: a\r\n" * 150, length(b), b"\r\n", b), True),
    Fault("5000 headers", lambda s, b: at_once(s, b"X-A: a\r\n" * 5000, length(b), b"\r\n", b), True),
    Fault("two equal lengths", lambda s, b: at_once(s, length(b) * 2, b"\r\n", b), True),
    Fault("two different lengths", lambda s, b: at_once(s, length(b), length(b + b"x"), b"\r\n", b), True),
    Fault("chunks and a length", lambda s, b: at_once(s, length(b), b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(b), b, b"\r\n0\r\n\r\n"), True),  # noqa: E501
    Fault("a length that is not a number", lambda s, b: at_once(s, b"Content-Length: many\r\n\r\n", b), True),
    Fault("more than the announced length", lambda s, b: at_once(s, length(b), b"\r\n", b, b"and more"), True),
    Fault("less than the announced length", lambda s, b: at_once(s, length(b + b"xyz"), b"\r\n", b), True),
    Fault("less than the length, and silence", lambda s, b: at_once(s, length(b + b"xyz"), b"\r\n", b), True, hang=True),  # noqa: E501
    Fault("no length, until the end", lambda s, b: at_once(s, b"\r\n", b), True),
    Fault("a name with a space", lambda s, b: at_once(s, b"X A: b\r\n", length(b), b"\r\n", b), True),
    Fault("a line without a colon", lambda s, b: at_once(s, b"oops\r\n", length(b), b"\r\n", b), True),
    Fault("a folded header", lambda s, b: at_once(s, b"X-A: b\r\n c\r\n", length(b), b"\r\n", b), True),
    Fault("control characters", lambda s, b: at_once(s, b"X-A: \x00\x01\r\n", length(b), b"\r\n", b), True),
    Fault("bare line feeds", lambda s, b: at_once(s.replace(b"\r", b""), length(b).replace(b"\r", b""), b"\n", b), True),  # noqa: E501
    Fault("empty lines first", lambda s, b: at_once(b"\r\n\r\n", s, length(b), b"\r\n", b), True),
    Fault("an interim response first", lambda s, b: at_once(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", s, length(b), b"\r\n", b), True),  # noqa: E501
    Fault("byte by byte", lambda s, b: [bytes([one]) for one in s + length(b) + b"\r\n" + b], True),
    Fault("a bad chunk", lambda s, b: at_once(s, b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b), False),
    Fault("an unfinished chunk", lambda s, b: at_once(s, b"Transfer-Encoding: chunked\r\n\r\nfff\r\n", b[:5]), False),
    Fault("half a body", lambda s, b: at_once(s, length(b), b"\r\n", b[:5]), False),
    Fault("half a body, and silence", lambda s, b: at_once(s, length(b), b"\r\n", b[:5]), False, hang=True),
    Fault("half the headers", lambda s, b: at_once(s, b"X-A: b\r\nX-"), False),
    Fault("half the headers, and silence", lambda s, b: at_once(s, b"X-A: b\r\nX-"), False, hang=True),
    Fault("nothing but the status line", lambda s, b: at_once(s), False),
    Fault("endless headers", lambda s, b: at_once(s, b"X-A: aaaaaaaa\r\n" * 100_000), False),
    Fault("no gzip, although announced", lambda s, b: at_once(s, b"Content-Encoding: gzip\r\n", length(b), b"\r\n", b), False),  # noqa: E501
    Fault("an endless body", lambda s, b: at_once(s, length(b"x" * 10**9), b"\r\n", b"x" * 200_000), False, hang=True),
]  # fmt: skip


SLOW = [one for one in BROKEN if one.hang or one.name == "a bad chunk"]  # each waits for a timeout


def line(code: int) -> bytes:
    return b"HTTP/1.1 %d Something\r\n" % code


@dataclass
class Peer:
    """A raw server, and every client that calls it."""

    server: RawServer
    crew: HttpCrewApi
    sender: CallbackSender

    def responses(self, broken: Fault, code: int, body: object) -> None:
        self.server.segments = broken.segments(line(code), json.dumps(body).encode())
        self.server.hang = broken.hang
        self.server.requests = 0

    async def callback(self) -> Confirmed | Undeliverable | Retryable:
        delivery = a_delivery()
        target = Destination(Channel.CALLBACK, f"{self.server.url}/hook")
        return await self.sender.send(replace(delivery, destination=target))


class NoNames(AbstractResolver):
    async def resolve(self, *_: object, **__: object) -> list[object]:  # type: ignore[override]
        raise OSError

    async def close(self) -> None:
        pass


OpenPeer = Callable[[], Awaitable[Peer]]


@pytest.fixture
async def open_peer() -> AsyncIterator[OpenPeer]:
    """Opens a server with clients of its own; their connections are kept apart by its port."""
    async with AsyncExitStack() as stack:
        sessions = await stack.enter_async_context(crew_sessions(FAST))
        callbacks = await stack.enter_async_context(
            callback_sessions(allow_private=True, resolver=NoNames(), time_limit=TIME_LIMIT)
        )

        async def opened() -> Peer:
            server = await stack.enter_async_context(raw_server())
            crew = HttpCrewApi(server.url, "t", RateLimiter(), sessions, time.time, FAST)
            return Peer(server, crew, CallbackSender(callbacks, SigningSecrets(), "0", time.time))

        yield opened


@pytest.fixture
async def peer(open_peer: OpenPeer) -> Peer:
    return await open_peer()


Call = Callable[[Peer], Awaitable[Any]]


every_fault = pytest.mark.parametrize(
    "faults",
    [SLOW, *([one] for one in BROKEN if one not in SLOW)],
    ids=lambda found: "|".join(one.name for one in found),
)
"""Slow ones wait for their timeouts at the same time."""


async def check_all(
    open_peer: OpenPeer,
    faults: Sequence[Fault],
    calls: Sequence[Call],
    body: object,
    cases: Callable[[Fault], dict[int, object]],
    *,
    once: bool = True,
) -> None:
    """Each result, or its type, is the expected one, after one request unless the call may be repeated."""
    checks = []
    for broken in faults:
        for call in calls:
            for code, expected in cases(broken).items():
                peer = await open_peer()
                peer.responses(broken, code, body)
                checks.append((broken, code, peer, expected, call))
    results = await asyncio.gather(*(call(peer) for *_, peer, _, call in checks))
    for (broken, code, peer, expected, _), result in zip(checks, results, strict=True):
        assert expected in (result, type(result)), (broken.name, code, result)
        assert not once or peer.server.requests == 1


@every_fault
async def test_a_callback_is_classified_by_its_status(open_peer: OpenPeer, faults: Sequence[Fault]) -> None:
    """A receiver that had responded with 200 received the event again and again."""

    async def classified(peer: Peer) -> tuple[type, int | None]:
        result = await peer.callback()
        return type(result), result.reply.code if result.reply else None

    cases: dict[int, object] = {200: (Confirmed, 200), 410: (Undeliverable, 410), 500: (Retryable, 500)}
    await check_all(open_peer, faults, [classified], {"ok": True}, lambda _: cases)


@every_fault
async def test_a_kickoff_response_is_read_or_classified_by_its_status(
    open_peer: OpenPeer, faults: Sequence[Fault]
) -> None:
    """The execution of a readable id was in doubt."""
    await check_all(
        open_peer,
        faults,
        [lambda peer: peer.crew.kickoff({})],
        {"kickoff_id": "k-1"},
        lambda broken: {
            200: Started("k-1") if broken.whole else InDoubt,
            422: Refused,
            401: CrewUnavailable,
            429: NotStarted,
            500: InDoubt,
        },
    )


@every_fault
async def test_a_poll_response_is_read_or_classified_by_its_status(
    open_peer: OpenPeer, faults: Sequence[Fault]
) -> None:
    """A run whose status could not be read never ended."""

    async def succeeded(peer: Peer) -> bool:
        return await peer.crew.status("k-1") == Succeeded("r")

    async def ready(peer: Peer) -> bool:
        return (await peer.crew.probe()).ok

    await check_all(
        open_peer, faults, [lambda peer: peer.crew.status("k-1")], {}, lambda _: {404: NotFound}, once=False
    )
    result = {"state": "SUCCESS", "result": "r"}
    await check_all(open_peer, faults, [succeeded], result, lambda broken: {200: broken.whole}, once=False)
    inputs = {"inputs": ["topic"]}
    await check_all(
        open_peer,
        faults,
        [lambda peer: peer.crew.inputs()],
        inputs,
        lambda broken: {200: ListedInputs(("topic",)) if broken.whole else None},
        once=False,
    )
    await check_all(open_peer, faults, [ready], inputs, lambda _: {200: True}, once=False)


@every_fault
async def test_the_response_to_an_answer_is_classified_by_its_status(
    open_peer: OpenPeer, faults: Sequence[Fault]
) -> None:
    await check_all(
        open_peer,
        faults,
        [
            lambda peer: peer.crew.resume({}),
            lambda peer: peer.crew.answer_flow(f"{peer.server.url}/flow", "yes"),
        ],
        {"status": "resumed"},
        lambda _: {200: Resumed, 400: Refused, 429: NotStarted, 500: InDoubt},
    )


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"", b"Transfer-Encoding: chunked\r\n"])
async def test_a_204_with_a_body_is_a_204(peer: Peer, framing: bytes) -> None:
    peer.server.segments = [line(204) + framing + b"\r\nhello"]
    assert type(await peer.callback()) is Confirmed
    assert type(await peer.crew.answer_flow(f"{peer.server.url}/flow", "yes")) is Resumed
    assert type(await peer.crew.kickoff({})) is InDoubt


@pytest.mark.parametrize("segments", [[], [b"HTTP/1.1 20"], [b"HTTP/1.1 200 OK"], [b"220 smtp\r\n\r\n"]])
async def test_without_a_complete_status_line_there_is_no_response(peer: Peer, segments: list[bytes]) -> None:
    peer.server.segments = segments
    assert type(await peer.callback()) is Retryable
    assert type(await peer.crew.kickoff({})) is InDoubt


async def test_a_connection_is_reused_only_after_valid_responses(peer: Peer) -> None:
    whole = b'{"state": "SUCCESS", "result": "r"}'
    peer.server.segments = [line(204) + b"Content-Length: 9\r\n\r\n" + line(404) + b"\r\n"]
    await peer.crew.status("k-1")
    peer.server.segments = [line(200) + length(whole) + b"\r\n" + whole]
    for _ in range(3):
        assert await peer.crew.status("k-1") == Succeeded("r")
