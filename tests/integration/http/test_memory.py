"""Memory of requests and responses, over real sockets: endless bodies, and responses that are not read."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from dataclasses import replace

import pytest

from bridge.adapters.http import memory
from bridge.adapters.http.read_limits import MAX_CONCURRENT
from bridge.core.runs.model import Outcome, State
from tests.http_client import BODY, LISTEN, Bridge, bearer, serving
from tests.patience import PATIENCE

SLOW_BODIES = replace(LISTEN, max_body=1_000_000, body_seconds=60.0, write_seconds=0.2)
TOKEN = f"Authorization: {bearer('submitter')['Authorization']}\r\n".encode()


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with serving(SLOW_BODIES) as served, asyncio.timeout(PATIENCE):
        yield served


async def held_back(bridge: Bridge, size: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request whose body lacks its last byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
    head = b"POST /v1/runs HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n" + TOKEN
    writer.write(head + b"Content-Length: %d\r\n\r\n" % (size + 1) + b" " * size)
    await writer.drain()
    return reader, writer


async def test_endless_bodies_make_room_for_others(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine hundred of a megabyte, each without its last byte, took 1.8 GB."""
    monkeypatch.setattr(memory, "MAX_WAIT", 0.01)
    bodies = bridge.servers[0].memory.bodies
    bodies.limit = 3_000_000
    held = [await held_back(bridge, 900_000) for _ in range(6)]
    responses = [asyncio.create_task(reader.readline()) for reader, _ in held]
    while sum(response.done() for response in responses) < 3:
        await asyncio.wait(responses, return_when=asyncio.FIRST_COMPLETED)
    assert {response.result().split()[1] for response in responses if response.done()} == {b"503"}
    assert bodies.held <= bodies.limit
    assert (await bridge.submit(BODY | {"inputs": {"text": "x" * 500_000}})).status == 202
    for _, writer in held:
        writer.close()
    await asyncio.gather(*responses, return_exceptions=True)


async def test_bodies_of_a_client_wait_for_one_another(bridge: Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is refused: four hundred of a megabyte displaced one another, and took 700 MB before they were counted."""
    monkeypatch.setattr(memory, "MAX_WAIT", PATIENCE)
    bridge.servers[0].memory.bodies.limit = 1_000_000
    body = BODY | {"inputs": {"text": "x" * 400_000}}
    responses = await asyncio.gather(*(bridge.submit(body) for _ in range(20)))
    assert {response.status for response in responses} == {202}


async def test_a_body_is_not_counted_after_it_was_handled(bridge: Bridge) -> None:
    assert (await bridge.submit()).status == 202
    assert bridge.servers[0].memory.bodies.held == 0


async def unread(bridge: Bridge, path: str) -> socket.socket:
    """A connection whose client sends requests and reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, ("127.0.0.1", bridge.port))
    await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: h\r\n".encode() + TOKEN + b"\r\n")
    return connection


def large_run(bridge: Bridge) -> str:
    run = bridge.store.add(state=State.SUCCEEDED, finished_at=1_700_000_001.0, outcome=Outcome("x" * 12_000_000))
    return f"/v1/runs/{run.run_id}"


async def test_a_client_that_does_not_read_is_disconnected(bridge: Bridge) -> None:
    """Its response was held without limit; the timeout is short here."""
    path = large_run(bridge)
    connections = [await unread(bridge, path) for _ in range(2 * MAX_CONCURRENT)]
    responses = bridge.servers[0].memory.responses
    while not responses.held:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)
    while responses.held:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.01)
    for connection in connections:
        with (
            closing(connection),
            suppress(ConnectionResetError),
        ):  # the end of the stream, after what is in the kernel's buffers
            while await asyncio.get_running_loop().sock_recv(connection, 1_000_000):
                pass


async def test_a_client_that_reads_slowly_receives_its_response() -> None:
    """What counts is that it reads, not that it has finished."""
    async with serving(replace(SLOW_BODIES, write_seconds=2.0)) as bridge, asyncio.timeout(PATIENCE):
        with closing(await unread(bridge, large_run(bridge))) as connection:
            received = 0
            while received < 12_000_000:
                part = await asyncio.get_running_loop().sock_recv(connection, 1_000_000)
                assert part, "the connection was cut"
                received += len(part)


async def test_a_client_with_unread_responses_waits_and_others_do_not(bridge: Bridge) -> None:
    """Unread responses of one client cost only that client."""
    path = large_run(bridge)
    memory = bridge.servers[0].memory
    full = memory.responses.hold("submitter")
    full.grow(memory.responses.limit // 4)
    waiting = asyncio.create_task(bridge.get(path, "submitter"))
    assert len(await (await bridge.get(path, "reader")).read()) > 12_000_000
    assert not waiting.done()
    full.release()
    assert json.loads(await (await waiting).read())["state"] == "succeeded"
