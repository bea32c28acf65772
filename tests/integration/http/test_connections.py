"""Many connections: authenticated clients are always accepted, and idle anonymous connections are closed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from bridge.adapters.http.auth import Clients
from bridge.adapters.http.server import Listen
from tests.http_client import CLIENTS, LISTEN, Bridge, bearer, problem, serving
from tests.integration.http.test_hooks import HOOKS
from tests.patience import PATIENCE

MOST = 10
CROWDED = replace(LISTEN, max_connections=MOST, head_seconds=600, body_seconds=600)
TOKEN = f"Authorization: {bearer('submitter')['Authorization']}\r\n".encode()
LIST = b"GET /v1/runs HTTP/1.1\r\nHost: h\r\n" + TOKEN + b"\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
HOOK = b"POST /hooks/github HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{"

Open = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Callers:
    """Connections to a bridge from one address, all closed at the end."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, sent: bytes = b"", server: int = 0) -> Open:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.bridge.servers[server].port)
        self.writers.append(writer)
        writer.write(sent)
        return reader, writer

    async def crowd(self, sent: bytes, server: int = 0) -> list[Open]:
        """More connections than the limit, which only send this."""
        return [await self.connect(sent, server) for _ in range(2 * MOST)]


@asynccontextmanager
async def calling(listen: Listen = CROWDED, clients: Clients | None = None) -> AsyncIterator[Callers]:
    async with serving(listen, clients, hooks=HOOKS) as bridge, asyncio.timeout(PATIENCE):
        callers = Callers(bridge)
        try:
            yield callers
        finally:
            for writer in callers.writers:
                writer.transport.abort()
            await asyncio.gather(*(writer.wait_closed() for writer in callers.writers), return_exceptions=True)


async def status_line(connection: Open, sent: bytes = b"") -> bytes:
    """The status of the next response, read to its end."""
    reader, writer = connection
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    await reader.readexactly(length)
    return head.split(b" ")[1]


LOAD = {"idle": b"", "kept": HEALTH, "head": b"GET / HTTP/1.1\r\nX-Long: ", "body": HOOK}


@pytest.mark.parametrize("load", LOAD)
async def test_idle_anonymous_connections_lock_no_client_out(load: str) -> None:
    """1,010 idle connections without a token made the bridge refuse every client, and the health check."""
    async with calling() as callers:
        known = await callers.connect()
        assert await status_line(known, LIST) == b"200"
        await callers.crowd(LOAD[load])
        assert await status_line(await callers.connect(), HEALTH) == b"200"
        assert await status_line(await callers.connect(), LIST) == b"200"
        assert await status_line(known, LIST) == b"200", "the connection of a client was closed"


async def test_the_health_check_on_its_own_port_is_always_accepted() -> None:
    async with calling(replace(CROWDED, ops_port=0)) as callers:
        await callers.crowd(b"")
        await callers.crowd(b"GET /", server=1)
        assert await status_line(await callers.connect(server=1), HEALTH) == b"200"


async def test_one_address_has_at_most_half_of_the_connections() -> None:
    """Its oldest are closed, not those of other addresses."""
    async with calling() as callers:
        held = await callers.crowd(b"")
        for reader, _ in held[: -MOST // 2]:
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        for connection in held[-MOST // 2 :]:
            assert await status_line(connection, HEALTH) == b"200"


async def test_a_verified_webhook_keeps_its_connection() -> None:
    """A sender, or the proxy in front of it, that keeps its connection is not an unauthenticated caller."""
    amp = b"POST /amp/known/crew HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
    hook = b"POST /hooks/bearer HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\nContent-Length: 2\r\n\r\n{}"
    async with calling() as callers:
        crew, sender = await callers.connect(amp), await callers.connect()
        assert (await crew[0].readuntil(b"\r\n\r\n")).split(b" ")[1] == b"204"
        assert await status_line(sender, hook) == b"202"
        await callers.crowd(b"")
        assert await status_line(sender, HEALTH) == b"200"
        assert await status_line(crew, HEALTH) == b"200"


async def test_one_client_cannot_occupy_every_connection() -> None:
    """Each request in progress holds a connection; a client may have half of those that the others do not hold."""
    slow = b"POST /v1/runs HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n" + TOKEN
    slow += b"Content-Length: 100\r\n\r\n{"
    async with calling(clients=Clients(CLIENTS, max_concurrent=4)) as callers:
        bridge = callers.bridge
        held = [await callers.connect(slow) for _ in range(2)]
        while (refused := await bridge.get("/v1/runs", "submitter")).status == 200:
            pass  # the server has not read both requests yet
        await problem(refused, 429, "too_many_requests")
        assert refused.headers["Retry-After"] == "1"
        assert (await bridge.get("/v1/runs", "operator")).status == 200
        for _, writer in held:
            writer.transport.abort()
        while (await bridge.get("/v1/runs", "submitter")).status == 429:
            pass  # the server has not noticed yet that they are closed
