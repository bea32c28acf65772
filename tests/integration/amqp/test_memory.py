"""The memory budget of the consumer, against a real broker."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.adapters.amqp import connection
from bridge.adapters.amqp.connection import LinkOptions
from bridge.adapters.amqp.consumer import AmqpConsumer
from bridge.adapters.amqp.memory import MessageMemory
from bridge.adapters.amqp.topology import Topology
from tests.amqp_client import BODY, Client, FakeInbound, eventually, rules_for, running
from tests.broker import Broker
from tests.patience import PATIENCE

LARGE = {**BODY, "meta": {"notes": "x" * 40_000}}
KEYS = {f"order-{number}" for number in range(6)}


@pytest.fixture
async def consumer(
    link: LinkOptions, topology: Topology, inbound: FakeInbound, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AmqpConsumer]:
    """With memory for two large messages."""
    monkeypatch.setattr(connection, "MessageMemory", lambda: MessageMemory(100_000, PATIENCE))
    consumer = AmqpConsumer(
        link, topology, rules_for(topology), 50, inbound.accept, inbound.refuse, inbound.apply_command, inbound.probe
    )
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        yield consumer


async def test_messages_beyond_the_budget_stay_with_the_broker_for_the_moment(
    consumer: AmqpConsumer, client: Client, topology: Topology, inbound: FakeInbound
):
    """The prefetch count would permit all of them."""
    inbound.gate.clear()
    for key in sorted(KEYS):
        await client.send(LARGE, message_id=key)
    await client.until_count(topology.requests, 0)
    await eventually(lambda: consumer.in_progress == 2)
    inbound.gate.set()
    await eventually(lambda: set(inbound.keys) == KEYS)
    assert len(inbound.accepted) == len(KEYS)
    assert not any(envelope.redelivered for _, envelope in inbound.accepted)


async def test_a_connection_lost_during_the_wait_releases_its_memory(
    consumer: AmqpConsumer, client: Client, topology: Topology, inbound: FakeInbound, broker: Broker
):
    inbound.gate.clear()
    for key in sorted(KEYS):
        await client.send(LARGE, message_id=key)
    await client.until_count(topology.requests, 0)
    await eventually(lambda: consumer.in_progress == 2)
    connections = await asyncio.to_thread(broker.ctl, "list_connections", "pid", "client_properties")
    [ours] = [line.split("\t")[0] for line in connections.splitlines() if "kickoff-bridge:test:consume" in line]
    await asyncio.to_thread(broker.ctl, "close_connection", ours, "test")
    inbound.gate.set()
    await eventually(lambda: set(inbound.keys) == KEYS)
    await eventually(lambda: consumer.ready and not consumer.in_progress)
    inbound.accepted.clear()
    for key in sorted(KEYS):
        await client.send(LARGE, message_id=key)
    await eventually(lambda: set(inbound.keys) == KEYS)
