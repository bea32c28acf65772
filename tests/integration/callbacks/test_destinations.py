"""A permanent destination of an assembled bridge: it receives what its settings choose, signed with its own secret."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from standardwebhooks import Webhook

from bridge.composition.build import open_bridge
from bridge.config import load
from bridge.sandbox import SandboxSettings, running
from bridge.sandbox.times import Fixed
from tests.amqp_client import eventually
from tests.patience import PATIENCE
from tests.web_server import web_server

COMMON, OWN = f"whsec_{'Y29tbW9u' * 4}", f"whsec_{'b25seW1l' * 4}"


@dataclass
class Receiver:
    """Accepts callbacks that its secret signed."""

    secret: str
    url: str = ""
    status: int = 204
    events: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    async def take(self, request: web.Request) -> web.Response:
        event: dict[str, Any] = Webhook(self.secret).verify(await request.read(), dict(request.headers))
        self.events.put_nowait(event)
        return web.Response(status=self.status)

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            return await self.events.get()


@asynccontextmanager
async def receiving(secret: str) -> AsyncIterator[Receiver]:
    receiver = Receiver(secret)
    async with web_server(web.post("/", receiver.take)) as url:
        receiver.url = f"{url}/"
        yield receiver


@asynccontextmanager
async def serving(folder: Path, **settings: Any) -> AsyncIterator[str]:
    """A bridge with the crews `research`, which succeeds, and `broken`, which fails; its address."""
    quick = Fixed(0.0)
    async with (
        running(SandboxSettings(run_time=quick)) as working,
        running(SandboxSettings(run_time=quick, failure_rate=1.0)) as failing,
    ):
        crews = {
            name: {"url": url, "token": "sandbox-token"} for name, url in [("research", working), ("broken", failing)]
        }
        store = {"url": f"sqlite:///{folder}/bridge.db"}
        (folder / "bridge.yaml").write_text(
            yaml.safe_dump({"http": {"port": 0}, "store": store, "crews": crews, **settings})
        )
        async with open_bridge(load(folder / "bridge.yaml", environ={}), migrate=True) as bridge:
            supervisor = await bridge.start()
            try:
                yield f"http://127.0.0.1:{bridge.servers[0].port}"
            finally:
                await supervisor.stop(asyncio.Event())


async def submit(http: aiohttp.ClientSession, bridge: str, crew: str, callback_url: str) -> str:
    body = {"crew": crew, "inputs": {"topic": "peat"}, "callback_url": callback_url}
    async with http.post(f"{bridge}/v1/runs", json=body) as response:
        assert response.status == 202, await response.text()
        run_id: str = (await response.json())["run_id"]
        return run_id


async def callbacks_of(http: aiohttp.ClientSession, bridge: str, run_id: str) -> list[str]:
    async with http.get(f"{bridge}/v1/runs/{run_id}") as response:
        return [delivery["destination"] for delivery in (await response.json())["deliveries"]]


async def only_delivery(http: aiohttp.ClientSession, bridge: str, last_error: str | None) -> dict[str, Any]:
    """The only delivery of the bridge, once it has had an attempt with this outcome."""
    found: list[dict[str, Any]] = []

    async def attempted() -> bool:
        async with http.get(f"{bridge}/v1/deliveries") as response:
            found[:] = (await response.json())["deliveries"]
        return bool(found and found[0]["attempts"] and found[0]["last_error"] == last_error)

    await eventually(attempted)
    [delivery] = found
    return delivery


async def test_a_removed_destination_receives_nothing_more_until_it_returns(tmp_path: Path):
    """It was called for days, with signatures of another secret."""
    callbacks = {"secret": COMMON, "allow_private": True}
    async with receiving(OWN) as alarm, aiohttp.ClientSession() as http:
        alarm.status = 503
        destinations = {"alarm": {"url": alarm.url, "secret": OWN}}
        async with serving(tmp_path, callbacks=callbacks, destinations=destinations) as bridge:
            async with http.post(f"{bridge}/v1/runs", json={"crew": "broken", "inputs": {"topic": "peat"}}) as response:
                assert response.status == 202
            delivery = await only_delivery(http, bridge, "HTTP 503")
        seen = alarm.events.qsize()
        async with serving(tmp_path, callbacks=callbacks) as bridge:
            await redeliver(http, bridge, delivery["id"])
            removed = await only_delivery(http, bridge, "the settings no longer name this URL")
            assert (removed["state"], alarm.events.qsize()) == ("pending", seen)
        alarm.status = 204
        async with serving(tmp_path, callbacks=callbacks, destinations=destinations) as bridge:
            await redeliver(http, bridge, delivery["id"])
            assert (await only_delivery(http, bridge, None))["state"] == "delivered"


async def redeliver(http: aiohttp.ClientSession, bridge: str, delivery_id: str) -> None:
    async with http.post(f"{bridge}/v1/deliveries/{delivery_id}/redeliver") as response:
        assert response.status < 300, await response.text()


async def test_a_destination_that_takes_only_failures(tmp_path: Path):
    """`callbacks.allow`, which limits the URLs of requests, does not apply to it."""
    async with receiving(COMMON) as requester, receiving(OWN) as alarm, aiohttp.ClientSession() as http:
        callbacks = {"secret": COMMON, "allow_private": True, "allow": [requester.url.rstrip("/")]}
        destinations = {"alarm": {"url": alarm.url, "events": ["failed", "timed_out"], "secret": OWN}}
        async with serving(tmp_path, callbacks=callbacks, destinations=destinations) as bridge:
            good = await submit(http, bridge, "research", requester.url)
            assert (await requester.next())["type"] == "run.succeeded"
            bad = await submit(http, bridge, "broken", requester.url)
            failed = await requester.next()
            assert failed["type"] == "run.failed"
            assert await alarm.next() == failed
            assert await callbacks_of(http, bridge, good) == [requester.url]
            assert await callbacks_of(http, bridge, bad) == [requester.url, alarm.url]
