"""The sandbox starts on a free port, announces it, and stops at once."""

import asyncio

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, running, serve

from .conftest import AT_ONCE


async def test_running_gives_the_url_of_a_free_port_and_closes_it_at_the_end() -> None:
    async with aiohttp.ClientSession() as session:
        async with running(SandboxSettings()) as url:
            assert url.startswith("http://127.0.0.1:")
            assert not url.endswith(":0")
            async with session.get(url) as response:
                assert response.status == 404
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)


async def test_two_sandboxes_run_side_by_side() -> None:
    async with running(SandboxSettings()) as one, running(SandboxSettings()) as other:
        assert one != other


async def test_stopping_does_not_wait_for_a_delayed_response() -> None:
    settings = SandboxSettings(kickoff_delay=3600)
    headers = {"Authorization": f"Bearer {settings.token}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with asyncio.timeout(AT_ONCE), running(settings) as url:
            waiting = asyncio.create_task(session.post(f"{url}/kickoff", json={"inputs": {"topic": "x"}}))
            started = 0
            while not started:
                async with session.get(f"{url}/_ledger") as response:
                    started = (await response.json())["started"]
        with pytest.raises(aiohttp.ClientError):
            await waiting


async def test_serve_announces_the_url_and_runs_until_cancelled() -> None:
    completion_signalled: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(SandboxSettings(), completion_signalled.set_result))
    url = await completion_signalled
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/_ledger") as response:
            assert (await response.json())["count"] == 0
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url)


async def test_a_port_in_use_is_an_error_at_the_start() -> None:
    async with running(SandboxSettings()) as url:
        taken = SandboxSettings(port=int(url.rsplit(":", 1)[1]))
        with pytest.raises(OSError, match="address already in use"):
            await serve(taken, print)
