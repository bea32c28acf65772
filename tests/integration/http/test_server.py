"""The lifecycle of the server: bind, run, stop, and requests in progress."""

import asyncio
import re
from dataclasses import replace

import aiohttp
import pytest

from bridge.adapters.http.auth import Clients
from bridge.adapters.http.server import HttpServer, Listen
from tests.http_client import CLIENTS, LISTEN, problem, serving
from tests.patience import PATIENCE


async def test_a_port_in_use_is_an_error_at_the_start() -> None:
    """Before anything runs, and with the address in the message."""
    async with serving() as bridge:
        second = HttpServer(replace(LISTEN, port=bridge.port), [], Clients(CLIENTS))
        expected = f"http.host, http.port: cannot listen on 127.0.0.1:{bridge.port}: Address already in use"
        with pytest.raises(OSError, match=f"^{expected}$"):
            await second.start()
        await second.close()


async def test_a_request_in_progress_is_finished() -> None:
    """A stop while a run is being stored must not leave the client without a response."""
    async with serving() as bridge:
        bridge.accept.go_on.clear()
        asking = asyncio.create_task(bridge.submit())
        await bridge.accept.began.wait()
        port = bridge.port
        bridge.servers[0].stop()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        bridge.accept.go_on.set()
        assert (await asking).status == 202


async def test_an_endless_request_does_not_delay_the_stop() -> None:
    async with asyncio.timeout(PATIENCE):
        async with serving(replace(LISTEN, drain_seconds=0.1)) as bridge:
            bridge.accept.go_on.clear()
            asking = asyncio.create_task(bridge.submit())
            await bridge.accept.began.wait()
        with pytest.raises(aiohttp.ClientError):
            await asking


async def test_idle_connections_do_not_delay_the_stop() -> None:
    async with asyncio.timeout(PATIENCE):
        async with serving(Listen(port=0, drain_seconds=60)) as bridge:
            await (await bridge.get("/healthz")).read()
            reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
            writer.write(b"GET /hea")
            await writer.drain()
        assert await reader.read() == b""
        writer.close()


async def test_many_requests_share_one_connection() -> None:
    async with serving() as bridge:
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        for _ in range(20):
            writer.write(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{bridge.port}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = re.search(rb"content-length: (\d+)", head.lower())
            assert length is not None
            await reader.readexactly(int(length[1]))
        writer.close()


async def test_operations_routes_may_have_their_own_port() -> None:
    """The client port then lacks these routes, and the other one has no others."""
    async with serving(replace(LISTEN, ops_port=0)) as bridge:
        assert [server.name for server in bridge.servers] == ["http", "http-ops"]
        assert (await bridge.get("/healthz", server=1)).status == 200
        assert (await bridge.get("/v1/runs", server=0)).status == 200
        await problem(await bridge.get("/healthz", server=0), 404, "not_found")
        await problem(await bridge.get("/v1/runs", server=1), 404, "not_found")


async def test_a_server_that_never_ran_can_be_closed() -> None:
    """Another part may fail to start after this one has bound its port."""
    server = HttpServer(LISTEN, [], Clients(CLIENTS))
    await server.start()
    port = server.port
    await server.close()
    again = HttpServer(replace(LISTEN, port=port), [], Clients(CLIENTS))
    await again.start()
    await again.close()


async def test_a_cancelled_server_releases_its_port() -> None:
    """The task group cancels it when another part fails."""
    server = HttpServer(LISTEN, [], Clients(CLIENTS))
    await server.start()
    port, running = server.port, asyncio.create_task(server.run())
    await asyncio.sleep(0)  # let it start
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
