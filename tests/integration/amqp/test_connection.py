"""Reconnection of consumer and publisher to a real broker that fails in several ways."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractConnection
from structlog.testing import capture_logs

from bridge.adapters.amqp.connection import HEARTBEAT, LinkOptions, probe_broker
from bridge.adapters.amqp.consumer import AmqpConsumer
from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.adapters.amqp.topology import Topology
from bridge.core.delivery.model import Channel
from bridge.core.delivery.outcome import Confirmed
from bridge.ports.lifecycle import Health
from tests.amqp_client import Client, FakeInbound, client_of, confirmed, delivery, eventually, rules_for, running
from tests.broker import UNREACHABLE, Broker
from tests.patience import PATIENCE


@dataclass
class Pair:
    """Consumer and publisher of one bridge."""

    consumer: AmqpConsumer
    publisher: AmqpPublisher

    @property
    def ready(self) -> bool:
        return self.consumer.ready and self.publisher.ready

    @property
    def unavailable(self) -> bool:
        return not self.consumer.ready and not self.publisher.ready


def pair_for(link: LinkOptions, topology: Topology, inbound: FakeInbound) -> Pair:
    consumer = AmqpConsumer(
        link, topology, rules_for(topology), 50, inbound.accept, inbound.refuse, inbound.apply_command, inbound.probe
    )
    return Pair(consumer, AmqpPublisher(link, topology))


@pytest.fixture
async def pair(link: LinkOptions, topology: Topology, inbound: FakeInbound) -> AsyncIterator[Pair]:
    pair = pair_for(link, topology, inbound)
    async with running(pair.consumer, pair.publisher):
        await eventually(lambda: pair.ready)
        yield pair


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs of all attempts to connect."""
    urls: list[str] = []
    connect = aio_pika.connect

    async def recorded(url: str, **options: Any) -> AbstractConnection:
        urls.append(url)
        connection: AbstractConnection = await connect(url, **options)
        return connection

    monkeypatch.setattr(aio_pika, "connect", recorded)
    return urls


async def both_ways(pair: Pair, url: str, topology: Topology, inbound: FakeInbound, key: str) -> None:
    """A request arrives and an event is published."""
    async with client_of(url, topology) as client:
        await client.send(message_id=key)
        await eventually(lambda: key in inbound.keys)
        assert await pair.publisher.send(delivery(Channel.QUEUE, topology.dead, f"{key}-event")) == Confirmed()


async def test_connections_have_names(pair: Pair, broker: Broker):
    """The names are for the operator's list of connections."""
    listed = await asyncio.to_thread(broker.ctl, "list_connections", "client_properties")
    assert all(f"kickoff-bridge:test:{name}" in listed for name in ("consume", "publish"))
    assert await pair.consumer.health() == Health(ok=True, detail="connected")


@pytest.mark.parametrize("heartbeat", ["0", "abc", "600"])
async def test_the_heartbeat_of_the_url_is_ignored(
    link: LinkOptions, topology: Topology, broker: Broker, heartbeat: str
):
    """The library reads an unparsable one as none: a silent broker would never be noticed."""
    instance = f"heartbeat-{heartbeat}"
    publisher = AmqpPublisher(replace(link, urls=[f"{broker.url}?heartbeat={heartbeat}"], instance=instance), topology)
    async with running(publisher):
        await eventually(lambda: publisher.ready)
        listed = await asyncio.to_thread(broker.ctl, "list_connections", "client_properties", "timeout")
    agreed = [line.split()[-1] for line in listed.splitlines() if f"kickoff-bridge:{instance}:publish" in line]
    assert agreed == [str(HEARTBEAT)]


async def test_resumes_after_closed_connections(pair: Pair, broker: Broker, topology: Topology, inbound: FakeInbound):
    """One log line per loss and per return."""
    with capture_logs() as logs:
        await asyncio.to_thread(broker.ctl, "close_all_connections", "test")
        await eventually(lambda: sum(line["event"] == "broker_connected" for line in logs) == 2)
    await eventually(lambda: pair.ready)
    await both_ways(pair, broker.url, topology, inbound, "after")
    assert [line["event"] for line in logs].count("broker_disconnected") == 2


async def test_resumes_when_the_broker_returns(
    pair: Pair, broker: Broker, link: LinkOptions, topology: Topology, inbound: FakeInbound
):
    """Both a bridge that lost the broker and one started without it; queues and messages are kept."""
    async with client_of(broker.url, topology) as client:
        pair.consumer.stop()
        await eventually(lambda: not pair.consumer.ready)
        await client.send(message_id="before")
    other_inbound = FakeInbound()
    late = pair_for(link, replace(topology, results=f"{topology.results}-late"), other_inbound)
    with capture_logs() as logs:
        await asyncio.to_thread(broker.stop)
        async with running(late.consumer, late.publisher):
            await eventually(lambda: pair.unavailable)
            await eventually(lambda: sum(line["event"] == "broker_unreachable" for line in logs) == 2)
            assert await late.consumer.health() == Health(ok=False, detail="not connected")
            await asyncio.to_thread(broker.start)
            await eventually(lambda: late.ready and pair.publisher.ready)
            await eventually(lambda: other_inbound.keys == ["before"])
            await both_ways(late, broker.url, topology, other_inbound, "after")
    assert [line["event"] for line in logs].count("broker_unreachable") == 2


async def test_a_deleted_queue_is_declared_again(pair: Pair, client: Client, topology: Topology, inbound: FakeInbound):
    """The broker cancels the consumer, which the library does not report; with `declare` the queue is created again."""
    with capture_logs() as logs:
        await client.channel.queue_delete(topology.requests)
        await eventually(lambda: any(line["event"] == "broker_connected" for line in logs))
    assert "cancelled the consumer" in logs[0]["reason"]
    await eventually(lambda: pair.ready)
    await client.send(message_id="after")
    await eventually(lambda: inbound.keys == ["after"])


async def test_without_declare_no_queue_is_created(
    link: LinkOptions, client: Client, topology: Topology, inbound: FakeInbound, attempts: list[str]
):
    """With `declare` off, missing queues are reported once, and nothing is created."""
    pair = pair_for(link, replace(topology, declare=False), inbound)
    with capture_logs() as logs:
        async with running(pair.consumer):
            await eventually(lambda: len(attempts) > 2)
            health = await pair.consumer.health()
    assert health == Health(ok=False, detail="a queue or exchange is missing")
    assert [line["event"] for line in logs] == ["broker_unreachable"]
    assert topology.dead in logs[0]["reason"]
    assert "amqp.declare" in logs[0]["remedy"]


async def test_other_arguments_are_reported(
    link: LinkOptions, client: Client, topology: Topology, inbound: FakeInbound
):
    """A queue that exists with other arguments is named; only the operator can resolve this."""
    await client.channel.declare_queue(topology.requests, durable=True)
    pair = pair_for(link, topology, inbound)
    with capture_logs() as logs:
        async with running(pair.consumer):
            await eventually(lambda: logs)
    assert logs[0]["log_level"] == "error"
    assert topology.requests in logs[0]["reason"]


@pytest.mark.parametrize(
    ("user", "password", "vhost", "named"),
    [("guest", "s3cret-pw", "", "user name or the password"), ("guest", "guest", "nowhere", "virtual host")],
)
async def test_wrong_credentials_are_reported(
    broker: Broker, topology: Topology, inbound: FakeInbound, attempts: list[str], user: str, password: str, vhost: str,
    named: str,
):  # fmt: skip
    """The remedy names the setting; the secret of the URL is neither in the log nor in the health report."""
    options = LinkOptions([broker.url_for(user, password, vhost)], "test", longest_pause=0.5)
    pair = pair_for(options, topology, inbound)
    with capture_logs() as logs:
        async with running(pair.consumer):
            await eventually(lambda: len(attempts) > 2)
            health = await pair.consumer.health()
    assert named in health.detail
    assert [line["log_level"] for line in logs] == ["error"]
    assert "amqp.url" in logs[0]["remedy"]
    assert "s3cret-pw" not in f"{logs}{options}{health}"


async def test_a_silent_broker_is_disconnected(
    link: LinkOptions, topology: Topology, broker: Broker, inbound: FakeInbound
):
    """A frozen broker keeps the connection open without a response: the publisher notices the missing confirm."""
    publisher = AmqpPublisher(link, topology, confirm_limit=0.5)
    async with running(publisher):
        await eventually(lambda: publisher.ready)
        broker.freeze()
        try:
            assert await publisher.send(delivery(Channel.QUEUE, topology.dead)) != Confirmed()
            await eventually(lambda: not publisher.ready)
        finally:
            broker.thaw()
        await eventually(lambda: confirmed(publisher, topology.dead))


async def test_stops_while_the_broker_is_unavailable(
    link: LinkOptions, topology: Topology, inbound: FakeInbound, attempts: list[str]
):
    """Stopping waits neither for the attempt in progress nor for the pause."""
    pair = pair_for(replace(link, urls=[UNREACHABLE]), topology, inbound)
    async with asyncio.timeout(PATIENCE), running(pair.consumer, pair.publisher):
        await eventually(lambda: attempts)


async def test_nodes_are_tried_in_turn(link: LinkOptions, topology: Topology, attempts: list[str]):
    nodes = [f"amqp://guest:guest@127.0.0.1:{port}/" for port in (1, 2, 3)]
    publisher = AmqpPublisher(replace(link, urls=nodes, longest_pause=0.01), topology)
    with capture_logs() as logs:
        async with running(publisher):
            await eventually(lambda: len(attempts) > 3)
    assert attempts[:4] == [*nodes, nodes[0]]
    assert [(line["event"], line["host"]) for line in logs] == [("broker_unreachable", "127.0.0.1:1")]


async def test_after_a_lost_connection_the_next_node_is_used(
    link: LinkOptions, topology: Topology, broker: Broker, attempts: list[str]
):
    """The two nodes are one, under two names."""
    nodes = [broker.url, UNREACHABLE, broker.url.replace("127.0.0.1", "localhost")]
    publisher = AmqpPublisher(replace(link, urls=nodes, longest_pause=0.01), topology)
    with capture_logs() as logs:
        async with running(publisher):
            await eventually(lambda: publisher.ready)
            await asyncio.to_thread(broker.ctl, "close_all_connections", "test")
            await eventually(lambda: len(attempts) == 3 and publisher.ready)
            assert await confirmed(publisher, topology.dead)
    assert attempts == nodes
    connected = [line["host"] for line in logs if line["event"] == "broker_connected"]
    assert connected == [f"{host}:{broker.port}" for host in ("127.0.0.1", "localhost")]


async def test_a_probe_names_every_node(broker: Broker):
    """One that accepts the connection is enough."""
    health = await probe_broker([UNREACHABLE, broker.url])
    assert health.ok
    assert health.detail.startswith("127.0.0.1:1: not connected (")
    assert health.detail.endswith(f"; 127.0.0.1:{broker.port}: accepts the connection")
    assert not (await probe_broker([UNREACHABLE, UNREACHABLE])).ok


async def test_a_stop_during_an_attempt_is_not_lost(topology: Topology, monkeypatch: pytest.MonkeyPatch):
    """Cancelled while it connects, the library may raise another error instead."""
    entered = asyncio.Event()

    async def connect(url: str, **options: Any) -> AbstractConnection:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError from None
        raise AssertionError

    monkeypatch.setattr(aio_pika, "connect", connect)
    async with asyncio.timeout(PATIENCE), running(AmqpPublisher(LinkOptions([UNREACHABLE], "test"), topology)):
        await entered.wait()
