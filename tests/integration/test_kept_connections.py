"""POSTs over kept connections, with servers that close them at the worst moments.

A POST is read by the server at most once, whatever happens, and exactly once if it was answered. Of those to one server
at most one is in doubt, and of those made at the same time as that one; `FAULTS=full` makes 10,000 to each.
"""

import asyncio
import json
import os
import random
import socket
import ssl
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bridge.adapters.crew_api import LIMITS, HttpCrewApi, crew_sessions
from bridge.config.tls import Tls
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.responses import KickoffResponse, NotStarted, Started
from tests.certificates import Files
from tests.integration.test_crew_api import read_request
from tests.patience import PATIENCE
from tests.tcp_server import tcp_server

HOST = "localhost"
POSTS = 10_000 if os.environ.get("FAULTS") == "full" else 300
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a RST

End = Callable[["Server", asyncio.StreamWriter, int], None]
"""What a server does after its n-th response on a connection."""


@dataclass
class Server:
    """A server that answers every POST; `end` may close the connection after a response."""

    end: End = lambda _server, _writer, _number: None
    version: str = "HTTP/1.1"
    headers: str = ""
    extra: bytes = b""
    url: str = ""
    connections: int = 0
    posts: Counter[int] = field(default_factory=Counter)
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = 0
        try:
            while not writer.is_closing():
                request = await read_request(reader)
                number += 1
                post = json.loads(request.partition(b"\r\n\r\n")[2])["inputs"]["number"]
                self.posts[post] += 1
                body = b'{"kickoff_id":"k-%d"}' % post
                head = f"{self.version} 200 OK\r\nContent-Length: {len(body)}\r\n{self.headers}\r\n".encode()
                writer.write(head + body + self.extra)
                self.end(self, writer, number)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def close_when_idle(server: Server, writer: asyncio.StreamWriter, _: int) -> None:
    asyncio.get_running_loop().call_later(server.chance.uniform(0.0, 0.02), writer.close)


def close_after_three(_: Server, writer: asyncio.StreamWriter, number: int) -> None:
    if number == 3:
        writer.close()


def close_a_little_later(_: Server, writer: asyncio.StreamWriter, number: int) -> None:
    if number == 3:
        asyncio.get_running_loop().call_later(0.0005, writer.close)


def reset(_: Server, writer: asyncio.StreamWriter, number: int) -> None:
    if number == 2:
        found: socket.socket = writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()


@asynccontextmanager
async def opened(server: Server, pem: Files | None = None, keep: float = LIMITS.keep) -> AsyncIterator[HttpCrewApi]:
    """A client of the server, which uses TLS if there are certificates."""
    context = None
    if pem is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem.path(f"{HOST}.pem"), pem.path(f"{HOST}.key"))
    scheme, host = ("http", "127.0.0.1") if pem is None else ("https", HOST)
    limits = replace(LIMITS, keep=keep)
    tls = None if pem is None else Tls(ca_file=pem.ca).context()
    async with tcp_server(server.serve, context) as port, crew_sessions(limits) as sessions:
        url = f"{scheme}://{host}:{port}"
        yield HttpCrewApi(url, "token", RateLimiter(), sessions, time.time, limits, tls=tls)


async def post(api: HttpCrewApi, number: int) -> KickoffResponse:
    return await api.kickoff({"inputs": {"number": number}})


@pytest.fixture
def pem(tmp_path: Path) -> Files:
    return Files(tmp_path, HOST)


@pytest.mark.parametrize("encrypted", [False, True])
async def test_consecutive_posts_share_a_connection(pem: Files, encrypted: bool):
    server = Server()
    async with opened(server, pem if encrypted else None, keep=PATIENCE) as api:
        assert [await post(api, number) for number in range(5)] == [Started(f"k-{number}") for number in range(5)]
    assert server.connections == 1


async def test_a_connection_that_was_idle_for_too_long_is_not_used():
    server = Server()
    async with opened(server, keep=0.0) as api:
        assert [await post(api, number) for number in range(3)] == [Started(f"k-{number}") for number in range(3)]
    assert server.connections == 3


@pytest.mark.parametrize(
    "server",
    [
        Server(headers="Connection: close\r\n"),
        Server(version="HTTP/1.0"),
        Server(extra=b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"),
    ],
    ids=["Connection: close", "HTTP/1.0", "unrequested response"],
)
async def test_a_connection_that_the_server_ends_is_not_used(server: Server):
    async with opened(server) as api:
        assert [await post(api, number) for number in range(3)] == [Started(f"k-{number}") for number in range(3)]
    assert server.connections == 3


@pytest.mark.parametrize("at_once", [1, 8])
@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("end", [close_when_idle, close_after_three, close_a_little_later, reset])
async def test_no_post_is_repeated_and_hardly_any_is_in_doubt(end: End, pem: Files, encrypted: bool, at_once: int):
    server, waiting, responses = Server(end), iter(range(POSTS)), dict[int, KickoffResponse]()

    async def post_one_after_the_other(api: HttpCrewApi) -> None:
        for number in waiting:
            responses[number] = await post(api, number)

    async with opened(server, pem if encrypted else None) as api:
        await asyncio.gather(*(post_one_after_the_other(api) for _ in range(at_once)))
    assert max(server.posts.values()) == 1
    assert all(server.posts[number] == 1 for number, response in responses.items() if isinstance(response, Started))
    assert not any(server.posts[number] for number, response in responses.items() if isinstance(response, NotStarted))
    doubtful = [response for response in responses.values() if not isinstance(response, Started | NotStarted)]
    assert len(doubtful) <= at_once, doubtful


async def test_after_an_early_close_posts_use_new_connections():
    server = Server(close_after_three)
    async with opened(server) as api:
        for number in range(9):
            assert await post(api, number) == Started(f"k-{number}")
    assert server.connections == 7  # three POSTs on the first one
