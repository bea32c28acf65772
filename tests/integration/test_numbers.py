"""The numbers of docs/requests.md, byte for byte: from each entry point to the kickoff, the events, and the API."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web

from bridge import daemon
from bridge.adapters.amqp.topology import Topology
from bridge.config import load
from tests.amqp_client import Client, eventually
from tests.broker import Broker
from tests.patience import PATIENCE
from tests.web_server import web_server

PAGE = (Path(__file__).parents[2] / "docs" / "requests.md").read_text("utf-8")
ROWS = re.findall(r"^\| `([-+.\deE]+)` \| (`[^`]+`|refused)", PAGE.partition("\n### Numbers\n")[2], re.MULTILINE)
KEPT = {sent: received.strip("`") for sent, received in ROWS if received != "refused"}
REFUSED = [sent for sent, received in ROWS if received == "refused"]
RECEIVED = f"[{','.join(KEPT.values())}]".encode()
ENTRIES = ("http", "amqp", "hook", "source")


@dataclass
class Recorder:
    """A flow that succeeds at once with its inputs, as sent, and a receiver of callbacks; both keep the bodies."""

    url: str = ""
    kickoffs: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    callbacks: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    results: dict[str, bytes] = field(default_factory=dict)

    async def inputs(self, _request: web.Request) -> web.Response:
        return web.json_response({"inputs": []})

    async def kickoff(self, request: web.Request) -> web.Response:
        body = await request.read()
        kickoff_id = f"k-{len(self.results)}"
        self.results[kickoff_id] = body.partition(b'"inputs":')[2].partition(b',"meta"')[0]
        self.kickoffs.put_nowait(body)
        return web.json_response({"kickoff_id": kickoff_id})

    async def status(self, request: web.Request) -> web.Response:
        result = self.results[request.match_info["kickoff_id"]]
        body = b'{"state": "SUCCESS", "status": "done", "result": %b, "result_json": %b}' % (result, result)
        return web.Response(body=body, content_type="application/json")

    async def callback(self, request: web.Request) -> web.Response:
        self.callbacks.put_nowait(await request.read())
        return web.Response(status=204)


@asynccontextmanager
async def recording() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    routes = (
        web.get("/inputs", recorder.inputs),
        web.post("/kickoff", recorder.kickoff),
        web.get("/status/{kickoff_id}", recorder.status),
        web.post("/done", recorder.callback),
    )
    async with web_server(*routes) as recorder.url:
        yield recorder


@dataclass
class Bridge:
    """A bridge with one flow, a hook, and a source, which maps bodies as the hook does."""

    api: aiohttp.ClientSession
    client: Client
    topology: Topology
    recorder: Recorder

    async def send(self, entry: str, number: str, **headers: str) -> int:
        """Send `number`, any JSON, through an entry point; return the HTTP status, or 0 for a message."""
        body = (
            f'{{"crew":"flow","inputs":{{"n":{number}}},"meta":{{"n":{number}}},"callback_url":"{self.callback_url}"}}'
        )
        if entry in ("amqp", "source"):
            queue = self.topology.requests if entry == "amqp" else f"{self.topology.requests}-source"
            await self.client.send(body.encode(), queue)
            return 0
        path = "/v1/runs" if entry == "http" else "/hooks/any"
        headers = {"Content-Type": "application/json", **headers}
        async with self.api.post(path, data=body.encode(), headers=headers) as response:
            return response.status

    @property
    def callback_url(self) -> str:
        return f"{self.recorder.url}/done"

    async def runs(self) -> bytes:
        async with self.api.get("/v1/runs") as response:
            return await response.read()


@pytest.fixture
async def bridge(broker: Broker, topology: Topology, client: Client, tmp_path: Path) -> AsyncIterator[Bridge]:
    async with recording() as recorder:
        rule = {
            "crew": "flow",
            "inputs": {"n": "inputs.n"},
            "meta": {"n": "meta.n"},
            "callback_url": "callback_url",
        }
        settings = {
            "http": {"port": 0},
            "store": {"url": f"sqlite:///{tmp_path}/bridge.db"},
            "amqp": {
                "url": broker.url, "requests": topology.requests, "results": topology.results, "dead": topology.dead,
            },
            "crews": {
                "flow": {
                    "url": recorder.url, "token": "t", "kind": "flow",
                    "poll": {"min_interval": "100ms", "max_interval": "100ms"},
                }
            },
            "hooks": {"any": {**rule, "verify": {"scheme": "none", "allow_unverified": True}}},
            "sources": {"any": {**rule, "queue": f"{topology.requests}-source"}},
            "callbacks": {"allow_private": True},
        }  # fmt: skip
        (tmp_path / "bridge.yaml").write_text(yaml.safe_dump(settings))
        async with daemon.serving(load(tmp_path / "bridge.yaml", environ={})) as url, aiohttp.ClientSession(url) as api:

            async def is_ready() -> bool:
                async with api.get("/readyz") as response:
                    return bool((await response.json())["status"] == "ready")

            await eventually(is_ready)
            yield Bridge(api, client, topology, recorder)


async def _next(bodies: asyncio.Queue[bytes]) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await bodies.get()


def numbers_in(body: bytes) -> Sequence[bytes]:
    """Every list of numbers in a body, as written."""
    return re.findall(rb'"n":(\[[^]]*\])', body)


def test_the_page_shows_ten_numbers_and_more() -> None:
    assert len(ROWS) >= 10
    assert {"12345678901234567.89", "1e400", "0.1e-400"} <= {*REFUSED}


async def test_accepted_numbers_reach_every_place_as_the_page_says(bridge: Bridge) -> None:
    """Inputs and meta in the kickoff; meta and result in the event, the callback, and the API."""
    results = await bridge.client.channel.declare_queue(f"{bridge.topology.results}-seen", exclusive=True)
    await results.bind(bridge.topology.results, "#")
    for entry in ENTRIES:
        assert await bridge.send(entry, f"[{','.join(KEPT)}]") in (0, 202)
        assert numbers_in(await _next(bridge.recorder.kickoffs)) == [RECEIVED] * 2
        callback = await _next(bridge.recorder.callbacks)
        assert numbers_in(callback) == [RECEIVED] * 2
        [event] = await bridge.client.receive(results.name)
        assert event.body == callback
    assert numbers_in(await bridge.runs()) == [RECEIVED] * 2 * len(ENTRIES)


@pytest.mark.parametrize("sent", REFUSED)
async def test_a_number_that_would_change_is_refused_everywhere(bridge: Bridge, sent: str) -> None:
    for entry in ENTRIES:
        assert await bridge.send(entry, sent) in (0, 400)
    dead = await bridge.client.receive(bridge.topology.dead, 2)
    assert [message.headers["x-bridge-reason"] for message in dead] == ["invalid_json"] * 2
    assert all(f":{sent}}}".encode() in message.body for message in dead)
    assert json.loads(await bridge.runs())["runs"] == []


async def test_different_numbers_are_different_requests(bridge: Bridge) -> None:
    """With one key, only a number that is received in the same form is the same request."""
    for first, form in KEPT.items():
        key = {"Idempotency-Key": f"key-{first}"}
        assert await bridge.send("http", first, **key) == 202
        for other, other_form in KEPT.items():
            assert await bridge.send("http", other, **key) == (202 if form == other_form else 422)
