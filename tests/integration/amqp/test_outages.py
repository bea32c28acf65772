"""Outages of the store and of the connection are no fault of a message: its delivery count stays low."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.adapters.amqp import consumer, messages
from bridge.adapters.amqp.connection import LinkOptions
from bridge.adapters.amqp.consumer import AmqpConsumer
from bridge.adapters.amqp.inbound_message import InboundMessage
from bridge.adapters.amqp.messages import MessageRules
from bridge.adapters.amqp.topology import DELIVERY_LIMIT, Topology, requests_arguments
from tests.amqp_client import Client, FakeInbound, eventually, rules_for, running
from tests.broker import Broker
from tests.system.faults.proxy import Proxy, proxy_to

MESSAGES, PREFETCH = 30, 10
LOSSES = 11


def consumer_for(link: LinkOptions, topology: Topology, inbound: FakeInbound) -> AmqpConsumer:
    return AmqpConsumer(
        link,
        topology,
        rules_for(topology),
        PREFETCH,
        inbound.accept,
        inbound.refuse,
        inbound.apply_command,
        inbound.probe,
    )


@pytest.fixture
def returns(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Per message id, how often the message had been returned to the queue at its last delivery."""
    counts: Counter[str] = Counter()
    read = messages.read_request

    def counted(message: InboundMessage, rules: MessageRules) -> Any:
        # RabbitMQ 4.3 counts what `basic.nack` returns under another name.
        returned = message.headers.get("x-acquired-count", message.headers.get("x-delivery-count", 0))
        assert isinstance(returned, int)
        assert message.message_id is not None
        counts[message.message_id] = max(counts[message.message_id], returned)
        return read(message, rules)

    monkeypatch.setattr(consumer, "read_request", counted)
    return counts


@pytest.fixture
async def proxy(broker: Broker) -> AsyncIterator[Proxy]:
    async with proxy_to("127.0.0.1", broker.port) as proxy:
        yield proxy


@pytest.fixture
def through(link: LinkOptions, broker: Broker, proxy: Proxy) -> LinkOptions:
    return replace(link, urls=[broker.url.replace(f":{broker.port}/", f":{proxy.port}/")], longest_pause=0.05)


async def send_all(client: Client, count: int = MESSAGES) -> None:
    for number in range(count):
        await client.send(message_id=f"order-{number}")


async def lose_link(proxy: Proxy) -> None:
    """Cut the connection, and wait until the bridge has connected again."""
    with capture_logs() as logs:
        proxy.cut()
        await eventually(lambda: any(line["event"] == "broker_connected" for line in logs))


async def all_stored(inbound: FakeInbound, client: Client, topology: Topology, count: int = MESSAGES) -> None:
    """Each once, and nothing is left in any queue."""
    await eventually(lambda: len(set(inbound.keys)) == count)
    await client.until_count(topology.requests, 0)
    assert await client.count(topology.dead) == 0


async def test_no_message_is_held_while_the_store_is_unavailable(
    link: LinkOptions, client: Client, topology: Topology, inbound: FakeInbound, returns: Counter[str]
):
    """Messages are returned once and wait in the queue; the store is polled instead of tried with each message."""
    inbound.unavailable = True
    consumer = consumer_for(link, topology, inbound)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        await send_all(client)
        await eventually(lambda: inbound.probes >= 2)
        assert (await consumer.health()).ok
        assert await client.count(topology.requests) == MESSAGES
        inbound.unavailable = False
        await all_stored(inbound, client, topology)
    assert max(returns.values()) <= 1
    assert len(inbound.keys) == MESSAGES


async def test_a_store_that_passes_only_its_probe_raises_no_count_beyond_one(
    link: LinkOptions, client: Client, topology: Topology, inbound: FakeInbound, returns: Counter[str]
):
    """Each attempt costs one message, with growing delays."""
    inbound.unavailable = True
    probed = asyncio.Event()

    async def pass_probe(_: int) -> None:
        probed.set()

    consumer = AmqpConsumer(
        link, topology, rules_for(topology), PREFETCH, inbound.accept, inbound.refuse, inbound.apply_command, pass_probe
    )
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        await send_all(client)
        await eventually(lambda: max(returns.values(), default=0) == 2)
        assert sum(count == 2 for count in returns.values()) == 1, "only the first in the queue"
        inbound.unavailable = False
        await all_stored(inbound, client, topology)


async def test_lost_connections_do_not_count_while_the_store_hangs(
    through: LinkOptions, client: Client, topology: Topology, inbound: FakeInbound, returns: Counter[str], proxy: Proxy
):
    """The messages in progress at the first loss are returned once.

    Nothing more is consumed before the store responds.
    """
    inbound.gate.clear()
    consumer = consumer_for(through, topology, inbound)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        await send_all(client)
        await eventually(lambda: consumer.in_progress == PREFETCH)
        for _ in range(LOSSES):
            await lose_link(proxy)
        await client.until_count(topology.requests, MESSAGES)
        inbound.gate.set()
        await all_stored(inbound, client, topology)
    assert max(returns.values()) <= 1


async def test_lost_connections_never_dead_letter_a_valid_message(
    through: LinkOptions,
    client: Client,
    topology: Topology,
    inbound: FakeInbound,
    returns: Counter[str],
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
):
    """Each is lost at the worst moment: with a message in progress, which is then stored without an ack."""
    stored = inbound.accept

    async def cut_off(*request: Any) -> Any:
        if proxy.cuts <= LOSSES:
            proxy.cut()
            await asyncio.Event().wait()  # the library cancels the callbacks of a dead channel
        return await stored(*request)

    monkeypatch.setattr(inbound, "accept", cut_off)
    consumer = consumer_for(through, topology, inbound)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        await send_all(client)
        await all_stored(inbound, client, topology)
    assert sum(returns.values()) <= PREFETCH + proxy.cuts, "after the first loss, one message at a time"


def test_the_queue_has_no_delivery_limit():
    """RabbitMQ counts every lost connection; its default limit would dead-letter valid messages."""
    assert requests_arguments("dead")["x-delivery-limit"] == DELIVERY_LIMIT >= 1_000_000
