"""Callbacks of the real process: forbidden targets, linked results, and signatures."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from tests.patience import PATIENCE
from tests.system.acceptance.harness import Daemon, eventually
from tests.web_server import web_server


@pytest.fixture
async def private_network_bridge(tmp_path: Path, crew_url: str) -> AsyncIterator[Daemon]:
    """A running bridge that may call private addresses."""
    bridge = Daemon(tmp_path, crew_url, callbacks={"allow_private": True})
    try:
        await bridge.start()
        yield bridge
    finally:
        await bridge.close()


Got = tuple[dict[str, str], bytes]


@dataclass
class Receiver:
    """Accepts callbacks; keeps the headers, in lower case, and the body of each."""

    url: str = ""
    got: asyncio.Queue[Got] = field(default_factory=asyncio.Queue)

    async def take(self, request: web.Request) -> web.Response:
        self.got.put_nowait(({name.lower(): value for name, value in request.headers.items()}, await request.read()))
        return web.Response(status=204)

    async def next(self) -> Got:
        async with asyncio.timeout(PATIENCE):
            return await self.got.get()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    taker = Receiver()
    async with web_server(web.post("/", taker.take)) as url:
        taker.url = f"{url}/"
        yield taker


async def submit(daemon: Daemon, callback_url: str) -> str:
    async with aiohttp.ClientSession() as session:
        body = {"crew": "research", "inputs": {"n": "1"}, "callback_url": callback_url}
        async with session.post(f"{daemon.url}/v1/runs", json=body) as response:
            assert response.status == 202, await response.text()
            run_id: str = (await response.json())["run_id"]
            return run_id


async def ended(daemon: Daemon, run_id: str) -> dict[str, Any]:
    """The only delivery of the run, after it has ended."""
    found: list[dict[str, Any]] = []

    async def met() -> bool:
        found[:] = (await daemon.get(f"/v1/runs/{run_id}"))[1]["deliveries"]
        return [delivery["state"] for delivery in found] in (["dead"], ["delivered"])

    await eventually(met, "the delivery has ended")
    return found[0]


async def test_the_bridge_does_not_call_itself(private_network_bridge: Daemon) -> None:
    """A callback to a hook of the bridge would start a run, whose callback starts another, without end."""
    for host in ("127.0.0.1", "localhost", "127.9.9.9"):
        run_id = await submit(private_network_bridge, f"http://{host}:{private_network_bridge.port}/hooks/again")
        delivery = await ended(private_network_bridge, run_id)
        assert (delivery["state"], delivery["last_error"]) == ("dead", "address not permitted")


async def test_a_large_result_is_linked_and_the_link_can_be_read(
    tmp_path: Path, crew_url: str, receiver: Receiver
) -> None:
    bridge = Daemon(tmp_path, crew_url, callbacks={"allow_private": True, "max_event_bytes": 100})
    try:
        await bridge.start()
        await submit(bridge, receiver.url)
        event = json.loads((await receiver.next())[1])
        assert (event["type"], event["data"]["result"]) == ("run.succeeded", None)
        assert event["dataref"].startswith(bridge.url)
        status, found = await bridge.get(event["dataref"].removeprefix(bridge.url))
    finally:
        await bridge.close()
    assert (status, found["state"]) == (200, "succeeded")
    assert found["result"]


async def test_a_secret_changed_in_its_file_signs_without_a_restart(
    tmp_path: Path, crew_url: str, receiver: Receiver
) -> None:
    """First an invalid one, which is reported and changes nothing, then a valid one; neither is ever logged."""
    first, mistake, second = f"whsec_{'Zmlyc3Qx' * 4}", "mistake-9d1f", f"whsec_{'c2Vjb25k' * 4}"
    file = tmp_path / "secret"
    file.write_text(first)
    bridge = Daemon(tmp_path, crew_url, callbacks={"allow_private": True, "secret_file": str(file)})

    async def signed_by(secret: str) -> bool:
        await submit(bridge, receiver.url)
        headers, body = await receiver.next()
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        return headers["webhook-signature"] == Webhook(secret).sign(headers["webhook-id"], at, body.decode())

    async def logged(event: str) -> None:
        async def met() -> bool:
            return bridge.log_events()[event] == 1

        await eventually(met, event)

    try:
        await bridge.start()
        assert await signed_by(first)
        file.write_text(mistake)
        await logged("secret_file_rejected")
        assert await signed_by(first)
        file.write_text(second)
        await logged("secrets_reloaded")
        assert await signed_by(second)
    finally:
        await bridge.close()
    assert not [secret for secret in (first[6:], mistake, second[6:]) if secret in bridge.log()]
