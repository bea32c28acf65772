"""Callbacks of the real process: what is never called."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.acceptance.harness import Daemon, eventually


@pytest.fixture
async def closed_network(tmp_path: Path, crew_url: str) -> AsyncIterator[Daemon]:
    """A running bridge that may call private addresses."""
    bridge = Daemon(tmp_path, crew_url, callbacks={"allow_private": True})
    try:
        await bridge.start()
        yield bridge
    finally:
        await bridge.close()


async def submit(daemon: Daemon, callback_url: str) -> str:
    async with aiohttp.ClientSession() as session:
        body = {"crew": "research", "inputs": {"n": "1"}, "callback_url": callback_url}
        async with session.post(f"{daemon.url}/v1/runs", json=body) as response:
            assert response.status == 202, await response.text()
            run_id: str = (await response.json())["run_id"]
            return run_id


async def ended(daemon: Daemon, run_id: str) -> dict[str, Any]:
    """The run's one delivery once it is over."""
    found: list[dict[str, Any]] = []

    async def met() -> bool:
        found[:] = (await daemon.get(f"/v1/runs/{run_id}"))[1]["deliveries"]
        return [delivery["state"] for delivery in found] in (["dead"], ["delivered"])

    await eventually(met, 20, "the delivery is over")
    return found[0]


async def test_the_bridge_does_not_call_itself(closed_network: Daemon) -> None:
    """A callback to one of our own hooks would start a run, whose callback starts another, for ever."""
    for host in ("127.0.0.1", "localhost", "127.9.9.9"):
        run_id = await submit(closed_network, f"http://{host}:{closed_network.port}/hooks/again")
        delivery = await ended(closed_network, run_id)
        assert (delivery["state"], delivery["last_error"]) == ("dead", "the address may not be called")
