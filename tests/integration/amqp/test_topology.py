"""Declarations on a real broker, and checks without declarations."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from aio_pika import ExchangeType
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed, PublishError

from bridge.adapters.amqp.topology import (
    Binding,
    Topology,
    ensure_inbound,
    ensure_outbound,
    rebind_periodically,
    requests_arguments,
)
from tests.amqp_client import Client, eventually
from tests.patience import PATIENCE


async def test_everything_is_declared(client: Client, topology: Topology):
    """Repeatedly; the requests exchange routes every key to the queue."""
    for _ in range(2):
        await ensure_inbound(client.channel, topology)
        await ensure_outbound(client.channel, topology)
    await client.send({}, "any.crew", exchange=topology.requests)
    assert (await client.receive(topology.requests))[0].routing_key == "any.crew"
    passive = Topology(topology.requests, topology.results, topology.dead, declare=False)
    await ensure_inbound(client.channel, passive)
    await ensure_outbound(client.channel, passive)


async def test_messages_of_other_exchanges_reach_the_requests_queue(client: Client, topology: Topology):
    other = await client.channel.declare_exchange(f"other-{topology.requests}", ExchangeType.TOPIC, auto_delete=True)
    bound = replace(topology, bindings=(Binding(other.name, "order.#"),))
    await ensure_inbound(client.channel, bound)
    await client.send({}, "order.placed", exchange=other.name)
    assert (await client.receive(topology.requests))[0].routing_key == "order.placed"
    with pytest.raises(PublishError):
        await client.send({}, "invoice.sent", exchange=other.name)


async def test_the_queue_of_a_source_gets_only_messages_of_its_bindings(client: Client, topology: Topology):
    """It is a quorum queue like the requests queue, and no exchange of its name is declared."""
    other = await client.channel.declare_exchange(f"other-{topology.requests}", ExchangeType.TOPIC, auto_delete=True)
    source = topology.for_source(f"{topology.requests}-orders", (Binding(other.name, "order.#"),))
    for _ in range(2):
        queue = await ensure_inbound(client.channel, source)
    await client.send({}, "order.placed", exchange=other.name)
    assert (await client.receive(queue.name))[0].routing_key == "order.placed"
    await ensure_inbound(client.channel, replace(source, declare=False))
    await client.channel.declare_queue(queue.name, durable=True, arguments=requests_arguments(topology.dead))
    with pytest.raises(ChannelNotFoundEntity, match=queue.name):
        await client.channel.declare_exchange(queue.name, passive=True)


async def test_without_declare_the_queue_of_a_source_must_exist(client: Client, topology: Topology):
    source = replace(topology.for_source(f"{topology.requests}-orders", ()), declare=False)
    await client.channel.declare_queue(topology.dead, durable=True)
    with pytest.raises(ChannelNotFoundEntity, match=source.requests):
        await ensure_inbound(client.channel, source)


async def test_a_missing_exchange_of_others_is_reported(client: Client, topology: Topology):
    bound = replace(topology, bindings=(Binding("no-such-exchange", "#"),))
    with pytest.raises(ChannelNotFoundEntity, match="no-such-exchange"):
        await ensure_inbound(client.channel, bound)


async def test_without_results_no_exchange_is_declared(client: Client, topology: Topology):
    await ensure_outbound(client.channel, replace(topology, publishes_results=False))
    with pytest.raises(ChannelNotFoundEntity, match=topology.results):
        await ensure_outbound(client.channel, replace(topology, declare=False))


async def test_a_removed_binding_is_restored(client: Client, topology: Topology):
    """The broker reports nothing, and would drop every message published to the exchange."""
    queue = await ensure_inbound(client.channel, topology)
    keeping = asyncio.create_task(rebind_periodically(queue, topology, every=0.01))

    async def arrives() -> bool:
        with suppress(PublishError):  # returned while nothing is bound
            await client.send({}, "research", exchange=topology.requests)
        return await client.count(topology.requests) > 0

    for _ in range(2):
        await queue.unbind(topology.requests, "#")
        await queue.purge()
        await eventually(arrives)
    keeping.cancel()


async def test_without_declare_bindings_are_left_unchanged(client: Client, topology: Topology):
    """The operator may have removed it on purpose."""
    queue = await ensure_inbound(client.channel, topology)
    await queue.unbind(topology.requests, "#")
    async with asyncio.timeout(PATIENCE):
        await rebind_periodically(queue, replace(topology, declare=False), every=0.01)
    with pytest.raises(PublishError):
        await client.send({}, "research", exchange=topology.requests)


async def test_quorum_queues_are_declared(client: Client, topology: Topology):
    """A queue of another type with the same name is refused, so these are quorum queues."""
    await ensure_inbound(client.channel, topology)
    with pytest.raises(ChannelPreconditionFailed, match=topology.requests):
        await client.channel.declare_queue(topology.requests, durable=True)


async def test_without_declare_the_topology_is_only_checked(client: Client, topology: Topology):
    """With `declare` off nothing is created."""
    passive = Topology(topology.requests, topology.results, topology.dead, declare=False)
    with pytest.raises(ChannelNotFoundEntity, match=topology.dead):
        await ensure_inbound(client.channel, passive)


async def test_without_declare_other_arguments_are_accepted(client: Client, topology: Topology):
    """With `declare` off the operator chooses the arguments."""
    for queue in (topology.dead, topology.requests):
        await client.channel.declare_queue(queue, durable=True)
    await client.channel.declare_exchange(topology.requests, ExchangeType.FANOUT, durable=True)
    passive = Topology(topology.requests, topology.results, topology.dead, declare=False)
    assert (await ensure_inbound(client.channel, passive)).name == topology.requests


def test_dead_letters_are_kept_until_they_arrive():
    """At-least-once dead-lettering needs `reject-publish`.

    Without it the broker silently falls back to at-most-once.
    """
    arguments = requests_arguments("dead")
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert arguments["x-overflow"] == "reject-publish"
