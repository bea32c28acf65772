"""The door for messages, against a real broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from bridge.adapters.amqp.connection import LinkOptions
from bridge.adapters.amqp.consumer import AmqpConsumer
from bridge.adapters.amqp.topology import Topology, ensure_inbound
from bridge.core.errors import RequestRefused, StoreBroken
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.inbound import RefusedMessage
from tests.amqp_client import BODY, Client, FakeDoor, client_of, eventually, rules_for, running
from tests.broker import Broker
from tests.fakes import Faults
from tests.raw_frames import POISON, publish_raw, short


def consumer_for(link: LinkOptions, topology: Topology, door: FakeDoor, prefetch: int = 50) -> AmqpConsumer:
    return AmqpConsumer(
        link, topology, rules_for(topology), prefetch, door.accept, door.refuse, door.apply_command, door.probe
    )


@pytest.fixture
async def consumer(link: LinkOptions, topology: Topology, door: FakeDoor) -> AsyncIterator[AmqpConsumer]:
    consumer = consumer_for(link, topology, door)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        yield consumer


@pytest.mark.usefixtures("consumer")
async def test_takes_a_request_by_routing_key(client: Client, topology: Topology, door: FakeDoor):
    """The routing key names the crew, the message id is the key, the rest of the envelope is kept."""
    properties = {"message_id": "order-7", "correlation_id": "c-1", "reply_to": "reply.orders", "priority": 3}
    await client.send({"inputs": {}}, "research", exchange=topology.requests, **properties)
    await eventually(lambda: door.accepted)
    request, envelope = door.accepted[0]
    assert (request.crew, request.idempotency_key, request.priority) == ("research", "order-7", 3)
    assert (envelope.source, envelope.correlation_id) == (f"queue/{topology.requests}", "c-1")
    assert (envelope.reply_to, envelope.redelivered) == ("reply.orders", False)
    assert await client.count(topology.requests) == 0


async def test_acks_only_what_is_stored(link: LinkOptions, client: Client, topology: Topology, door: FakeDoor):
    """While the store works the broker holds the message: if the process dies now, it comes again."""
    door.gate.clear()
    consumer = consumer_for(link, topology, door)
    dying = asyncio.create_task(consumer.run())
    await eventually(lambda: consumer.ready)
    await client.send(message_id="order-7")
    await door.entered.wait()
    dying.cancel()
    await asyncio.wait([dying])
    assert door.accepted == []
    door.gate.set()
    async with running(consumer_for(link, topology, door)):
        await eventually(lambda: door.accepted)
    assert door.accepted[0][1].redelivered
    assert door.keys == ["order-7"]


async def test_prefetch_bounds_what_is_in_hand(link: LinkOptions, client: Client, topology: Topology, door: FakeDoor):
    """A store that is slow leaves the rest in the queue."""
    door.gate.clear()
    consumer = consumer_for(link, topology, door, prefetch=2)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        for number in range(5):
            await client.send(message_id=f"order-{number}")
        await eventually(lambda: consumer.in_progress == 2)
        assert await client.count(topology.requests) == 3
        door.gate.set()
        await eventually(lambda: len(door.accepted) == 5)


async def test_finishes_what_is_in_hand_when_stopped(
    link: LinkOptions, client: Client, topology: Topology, door: FakeDoor
):
    """A request whose storing is under way is stored and acked before the connection closes."""
    door.gate.clear()
    consumer = consumer_for(link, topology, door)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        await client.send(message_id="order-7")
        await door.entered.wait()
        consumer.stop()
        asyncio.get_running_loop().call_later(0.1, door.gate.set)
    assert door.keys == ["order-7"]
    assert await client.count(topology.requests) == 0


@pytest.mark.usefixtures("consumer")
async def test_refuses_what_cannot_be_read(client: Client, topology: Topology, door: FakeDoor):
    """The body is kept unchanged, headers that route are dropped, the message is acked."""
    await client.send(b"{oops", headers={"tenant": "a", "CC": ["other"], "x-death": "1"}, message_id="order-7")
    await eventually(lambda: door.refused)
    refused = door.refused[0]
    assert (refused.code, refused.body) == ("invalid_json", b"{oops")
    assert refused.headers == {"tenant": "a", "x-bridge-original-message_id": "order-7"}
    assert await client.count(topology.requests) == 0


@pytest.mark.usefixtures("consumer")
async def test_refuses_an_answer_whose_key_cannot_be_read(broker: Broker, topology: Topology, door: FakeDoor):
    """It was taken without its key, so that a second copy of it could have answered the next question."""
    answer = json.dumps({"run_id": "r-1", "approve": True}).encode()
    async with client_of(broker.url, topology) as client:
        properties = {"type": short(b"resume"), **POISON["message_id"]}
        await publish_raw(client.channel, properties, answer, key=topology.requests.encode())
        await eventually(lambda: door.refused or door.steered)
    assert not door.steered
    assert (door.refused[0].code, door.refused[0].body) == ("invalid_request", answer)


@pytest.mark.usefixtures("consumer")
async def test_refuses_what_the_store_refuses(client: Client, door: FakeDoor):
    """A request that could be read and is refused later still names its crew."""
    door.errors = [RequestRefused("unknown_crew", "there is no such crew", "crew")]
    await client.send(reply_to="reply.orders")
    await eventually(lambda: door.refused)
    assert (door.refused[0].crew, door.refused[0].reply_to) == ("research", "reply.orders")


async def test_an_unexpected_exception_costs_its_message_alone(
    link: LinkOptions, client: Client, topology: Topology, door: FakeDoor
):
    """It ended the process; the message came again, and ended the next one."""
    faults = Faults()
    door.errors = [ZeroDivisionError("a bug")]
    consumer = consumer_for(replace(link, report=faults), topology, door)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        await client.send(message_id="poison")
        await eventually(lambda: door.refused)
        await client.send(message_id="order-7")
        await eventually(lambda: door.keys == ["order-7"])
    [refused] = door.refused
    assert (refused.code, refused.body, refused.idempotency_key) == ("internal", json.dumps(BODY).encode(), "poison")
    assert faults.kinds == [Quarantined.MESSAGE]
    await client.until_count(topology.requests, 0)


async def test_a_message_that_cannot_even_be_refused_goes_to_the_dead_queue_by_the_brokers_way(
    monkeypatch: pytest.MonkeyPatch, link: LinkOptions, client: Client, topology: Topology, door: FakeDoor
):
    async def refuse(_: RefusedMessage) -> None:
        raise OverflowError("another bug")

    faults = Faults()
    door.errors = [ZeroDivisionError("a bug")]
    monkeypatch.setattr(door, "refuse", refuse)
    consumer = consumer_for(replace(link, report=faults), topology, door)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        await client.send(message_id="poison")
        await client.until_count(topology.dead, 1)
        await client.send(message_id="order-7")
        await eventually(lambda: door.keys == ["order-7"])
    assert faults.kinds == [Quarantined.MESSAGE] * 2
    await client.until_count(topology.requests, 0)


async def test_only_a_store_that_cannot_be_relied_on_ends_the_part(
    link: LinkOptions, client: Client, topology: Topology, door: FakeDoor
):
    door.errors = [StoreBroken("disk I/O error")]
    consumer = consumer_for(link, topology, door)
    consuming = asyncio.create_task(consumer.run())
    await eventually(lambda: consumer.ready)
    await client.send(message_id="order-7")
    with pytest.raises(StoreBroken):
        await consuming


async def test_a_bug_while_connecting_is_reported_and_the_connection_made_anew(
    monkeypatch: pytest.MonkeyPatch, link: LinkOptions, topology: Topology, door: FakeDoor
):
    faults, bugs = Faults(), [ZeroDivisionError("a bug")]

    async def buggy(*args: Any) -> Any:
        if bugs:
            raise bugs.pop()
        return await ensure_inbound(*args)

    monkeypatch.setattr("bridge.adapters.amqp.consumer.ensure_inbound", buggy)
    consumer = consumer_for(replace(link, report=faults), topology, door)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
    assert faults.kinds == [Quarantined.TASK]


async def test_a_rejected_message_reaches_the_dead_queue(client: Client, topology: Topology, consumer: AmqpConsumer):
    """What the broker itself gives up goes through the default exchange to the dead queue."""
    consumer.stop()
    await eventually(lambda: not consumer.ready)
    await client.send(message_id="order-7")
    queue = await client.channel.get_queue(topology.requests, ensure=False)
    message = await queue.get()
    assert message is not None
    await message.reject(requeue=False)
    dead = (await client.receive(topology.dead))[0]
    assert (dead.message_id, dead.headers["x-first-death-reason"]) == ("order-7", "rejected")
