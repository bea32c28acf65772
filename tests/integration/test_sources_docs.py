"""The source of docs/integrate-rabbitmq.md, as published, in front of a real broker and a sandbox crew."""

import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aio_pika import ExchangeType
from typer.testing import CliRunner

from bridge import daemon
from bridge.adapters.amqp.topology import Topology
from bridge.cli import app
from bridge.config import load
from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.amqp_client import Client, eventually
from tests.broker import Broker

PAGE = (Path(__file__).parents[2] / "docs" / "integrate-rabbitmq.md").read_text("utf-8")
SECTION = PAGE.partition("\n## Messages of other systems\n")[2].partition("\n## ")[0]
SETTINGS, MESSAGE, COMMAND, SHOWN = re.findall(r"^```\w*\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
TOPIC = json.loads(MESSAGE)["order"]["title"]


@pytest.fixture
def queue(topology: Topology) -> str:
    return f"{topology.requests}-orders"


@pytest.fixture
async def file(tmp_path: Path, broker: Broker, topology: Topology, queue: str, client: Client) -> AsyncIterator[Path]:
    """The settings of the page, with names of this test."""
    exchange = f"{topology.requests}-shop"
    await client.channel.declare_exchange(exchange, ExchangeType.TOPIC, durable=True)
    async with running(SandboxSettings(inputs=("topic",), run_time=parse_run_time("fixed:0.1"))) as crew_url:
        poll = {"min_interval": "100ms", "max_interval": "200ms"}
        names = {"requests": topology.requests, "results": topology.results, "dead": topology.dead}
        settings = {
            "http": {"port": 0},
            "store": {"url": f"sqlite:///{tmp_path}/bridge.db"},
            "amqp": {"url": broker.url, **names},
            "crews": {"research": {"url": crew_url, "token": "sandbox-token", "poll": poll}},
            **yaml.safe_load(SETTINGS.replace("kickoff.orders", queue).replace("shop.events", exchange)),
        }
        file = tmp_path / "bridge.yaml"
        file.write_text(yaml.safe_dump(settings))
        yield file


@pytest.fixture
async def bridge(file: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with daemon.serving(load(file, environ={})) as url, aiohttp.ClientSession(url) as session:
        await eventually(lambda: is_ready(session))
        yield session


async def is_ready(bridge: aiohttp.ClientSession) -> bool:
    document = await get(bridge, "/readyz")
    return bool(document["status"] == "ready" and document["parts"]["source/orders"]["ok"])


async def get(bridge: aiohttp.ClientSession, path: str) -> Any:
    async with bridge.get(path) as response:
        return await response.json()


async def publish(client: Client, topology: Topology, body: bytes, **properties: Any) -> None:
    await client.send(body, "order.placed", exchange=f"{topology.requests}-shop", **properties)


async def test_a_message_of_the_shop_becomes_a_run_and_another_type_becomes_nothing(
    bridge: aiohttp.ClientSession, client: Client, topology: Topology, queue: str
):
    results = await client.channel.declare_queue(f"{topology.results}-seen", exclusive=True)
    await results.bind(topology.results, "#")
    await publish(client, topology, MESSAGE.replace("order.placed", "order.paid").encode())
    for _ in range(2):  # the second time, the key leads to the same run
        await publish(client, topology, MESSAGE.encode(), headers={"customer": 42}, correlation_id="c-1")
    [event] = await client.receive(results.name)
    data = json.loads(event.body)["data"]
    assert (data["state"], data["idempotency_key"], event.correlation_id) == ("succeeded", "1042", "c-1")
    assert data["meta"] == {"order": 1042, "customer": 42}
    assert TOPIC in data["result"]
    await client.until_count(queue, 0)
    assert len((await get(bridge, "/v1/runs"))["runs"]) == 1
    async with bridge.get("/metrics") as response:
        shown = await response.text()
    assert 'kickoff_bridge_broker_connected{link="source/orders"} 1.0' in shown
    assert 'kickoff_bridge_requests_total{outcome="accepted",via="source"} 1.0' in shown
    assert 'kickoff_bridge_requests_total{outcome="replayed",via="source"} 1.0' in shown


async def test_a_message_that_cannot_be_mapped_is_dead_and_returns_to_its_queue_when_replayed(
    bridge: aiohttp.ClientSession, file: Path, client: Client, topology: Topology, queue: str
):
    """The queue of the source alone: other consumers of the shop's exchange have their copy."""
    body = b'{"type": "order.placed", "order": {"id": 7}}'
    await publish(client, topology, body, message_id="m-7", reply_to="shop.rpc")
    await client.until_count(topology.dead, 1)
    settings = load(file, environ={})
    assert settings.amqp is not None
    async with daemon.dead_queue(settings.amqp, settings.sources) as letters:
        assert (await letters.replay(None)).sent == ["m-7"]
    [dead] = await client.receive(topology.dead)
    assert (dead.body, dead.message_id, dead.reply_to) == (body, "m-7", "shop.rpc")
    assert (dead.headers["x-bridge-reason"], dead.headers["x-bridge-original-queue"]) == ("invalid_request", queue)
    assert dead.headers["x-bridge-detail"] == "order.title yields nothing for inputs.topic"
    assert await get(bridge, "/v1/runs") == {"runs": [], "next_cursor": None}


async def test_a_missing_exchange_stops_only_its_source(file: Path, client: Client, topology: Topology):
    exchange = f"{topology.requests}-shop"
    await client.channel.exchange_delete(exchange)
    async with daemon.serving(load(file, environ={})) as url, aiohttp.ClientSession(url) as bridge:

        async def only_the_source_is_down() -> bool:
            parts = (await get(bridge, "/readyz"))["parts"]
            source = parts["source/orders"]
            return bool(parts["broker_in"]["ok"] and not source["ok"] and "not connected yet" not in source["detail"])

        async def is_accepted() -> bool:
            return len((await get(bridge, "/v1/runs"))["runs"]) == 1

        await eventually(only_the_source_is_down)
        await client.send({"crew": "research", "inputs": {"topic": TOPIC}})
        await eventually(is_accepted)
        await client.channel.declare_exchange(exchange, ExchangeType.TOPIC, durable=True)
        await eventually(lambda: is_ready(bridge))


def test_the_command_of_the_page_shows_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    crews = {"research": {"url": "http://127.0.0.1:9", "token": "t"}}
    (tmp_path / "bridge.yaml").write_text(yaml.safe_dump({"amqp": {}, "crews": crews}) + SETTINGS)
    (tmp_path / "order.json").write_text(MESSAGE)
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, shlex.split(COMMAND)[1:]).output == SHOWN
