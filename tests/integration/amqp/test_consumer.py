"""The consumer against a real broker."""

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
from tests.amqp_client import BODY, Client, FakeInbound, client_of, eventually, rules_for, running
from tests.broker import Broker
from tests.fakes import Faults
from tests.raw_frames import POISON, publish_raw, short


def consumer_for(link: LinkOptions, topology: Topology, inbound: FakeInbound, prefetch: int = 50) -> AmqpConsumer:
    return AmqpConsumer(
        link,
        topology,
        rules_for(topology),
        prefetch,
        inbound.accept,
        inbound.refuse,
        inbound.apply_command,
        inbound.probe,
        count=inbound.outcomes.append,
    )


@pytest.fixture
async def consumer(link: LinkOptions, topology: Topology, inbound: FakeInbound) -> AsyncIterator[AmqpConsumer]:
    consumer = consumer_for(link, topology, inbound)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        yield consumer


@pytest.mark.usefixtures("consumer")
async def test_a_request_is_accepted_by_routing_key(client: Client, topology: Topology, inbound: FakeInbound):
    """The routing key names the crew, the message id is the key, and the rest of the envelope is kept."""
    properties = {"message_id": "order-7", "correlation_id": "c-1", "reply_to": "reply.orders", "priority": 3}
    await client.send({"inputs": {}}, "research", exchange=topology.requests, **properties)
    await eventually(lambda: inbound.accepted)
    request, envelope = inbound.accepted[0]
    assert (request.crew, request.idempotency_key, request.priority) == ("research", "order-7", 3)
    assert (envelope.source, envelope.correlation_id) == (f"queue/{topology.requests}", "c-1")
    assert (envelope.reply_to, envelope.redelivered) == ("reply.orders", False)
    assert await client.count(topology.requests) == 0


async def test_only_stored_messages_are_acked(
    link: LinkOptions, client: Client, topology: Topology, inbound: FakeInbound
):
    """The broker holds the message while the store writes: if the process dies now, the message is redelivered."""
    inbound.gate.clear()
    consumer = consumer_for(link, topology, inbound)
    dying = asyncio.create_task(consumer.run())
    await eventually(lambda: consumer.ready)
    await client.send(message_id="order-7")
    await inbound.entered.wait()
    dying.cancel()
    await asyncio.wait([dying])
    assert inbound.accepted == []
    inbound.gate.set()
    async with running(consumer_for(link, topology, inbound)):
        await eventually(lambda: inbound.accepted)
    assert inbound.accepted[0][1].redelivered
    assert inbound.keys == ["order-7"]


async def test_prefetch_limits_messages_in_progress(
    link: LinkOptions, client: Client, topology: Topology, inbound: FakeInbound
):
    """A slow store leaves the other messages in the queue."""
    inbound.gate.clear()
    consumer = consumer_for(link, topology, inbound, prefetch=2)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        for number in range(5):
            await client.send(message_id=f"order-{number}")
        await eventually(lambda: consumer.in_progress == 2)
        assert await client.count(topology.requests) == 3
        inbound.gate.set()
        await eventually(lambda: len(inbound.accepted) == 5)


async def test_stopping_finishes_messages_in_progress(
    link: LinkOptions, client: Client, topology: Topology, inbound: FakeInbound
):
    """A request that is being stored is acked before the connection closes."""
    inbound.gate.clear()
    consumer = consumer_for(link, topology, inbound)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        await client.send(message_id="order-7")
        await inbound.entered.wait()
        consumer.stop()
        asyncio.get_running_loop().call_later(0.1, inbound.gate.set)
    assert inbound.keys == ["order-7"]
    assert await client.count(topology.requests) == 0


@pytest.mark.usefixtures("consumer")
async def test_each_request_is_counted_by_its_outcome(client: Client, inbound: FakeInbound):
    """Commands are counted only if they are refused, because they are no kickoff requests."""
    inbound.errors += [RequestRefused("unknown_crew", "no such crew"), ValueError("unexpected")]
    for sent in (BODY, BODY, b"{oops", BODY):
        await client.send(sent)
    await client.send({"run_id": "r-1"}, type="cancel")
    await eventually(lambda: len(inbound.outcomes) == 4 and inbound.commands)
    assert sorted(inbound.outcomes) == ["accepted", "internal", "invalid_json", "unknown_crew"]


@pytest.mark.usefixtures("consumer")
async def test_an_unreadable_message_is_refused(client: Client, topology: Topology, inbound: FakeInbound):
    """The body is kept unchanged, headers that route are dropped, and the message is acked."""
    await client.send(b"{oops", headers={"tenant": "a", "CC": ["other"], "x-death": "1"}, message_id="order-7")
    await eventually(lambda: inbound.refused)
    refused = inbound.refused[0]
    assert (refused.code, refused.body) == ("invalid_json", b"{oops")
    assert refused.headers == {"tenant": "a", "x-bridge-original-message_id": "order-7"}
    assert await client.count(topology.requests) == 0


@pytest.mark.usefixtures("consumer")
async def test_an_answer_with_an_unreadable_key_is_refused(broker: Broker, topology: Topology, inbound: FakeInbound):
    """It was accepted without its key, so that a second copy could have answered the next question."""
    result = json.dumps({"run_id": "r-1", "approve": True}).encode()
    async with client_of(broker.url, topology) as client:
        properties = {"type": short(b"resume"), **POISON["message_id"]}
        await publish_raw(client.channel, properties, result, key=topology.requests.encode())
        await eventually(lambda: inbound.refused or inbound.commands)
    assert not inbound.commands
    assert (inbound.refused[0].code, inbound.refused[0].body) == ("invalid_request", result)


@pytest.mark.usefixtures("consumer")
async def test_a_request_that_the_store_refuses_is_refused(client: Client, inbound: FakeInbound):
    """A readable request that is refused later still names its crew."""
    inbound.errors = [RequestRefused("unknown_crew", "there is no such crew", "crew")]
    await client.send(reply_to="reply.orders")
    await eventually(lambda: inbound.refused)
    assert (inbound.refused[0].crew, inbound.refused[0].reply_to) == ("research", "reply.orders")


async def test_an_unexpected_exception_costs_only_its_message(
    link: LinkOptions, client: Client, topology: Topology, inbound: FakeInbound
):
    """It ended the process; the message was redelivered, and ended the next one."""
    faults = Faults()
    inbound.errors = [ZeroDivisionError("a bug")]
    consumer = consumer_for(replace(link, report=faults), topology, inbound)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        await client.send(message_id="poison")
        await eventually(lambda: inbound.refused)
        await client.send(message_id="order-7")
        await eventually(lambda: inbound.keys == ["order-7"])
    [refused] = inbound.refused
    assert (refused.code, refused.body, refused.idempotency_key) == ("internal", json.dumps(BODY).encode(), "poison")
    assert faults.kinds == [Quarantined.MESSAGE]
    await client.until_count(topology.requests, 0)


async def test_a_message_that_cannot_be_refused_is_dead_lettered_by_the_broker(
    monkeypatch: pytest.MonkeyPatch, link: LinkOptions, client: Client, topology: Topology, inbound: FakeInbound
):
    async def refuse(_: RefusedMessage) -> None:
        raise OverflowError("another bug")

    faults = Faults()
    inbound.errors = [ZeroDivisionError("a bug")]
    monkeypatch.setattr(inbound, "refuse", refuse)
    consumer = consumer_for(replace(link, report=faults), topology, inbound)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
        await client.send(message_id="poison")
        await client.until_count(topology.dead, 1)
        await client.send(message_id="order-7")
        await eventually(lambda: inbound.keys == ["order-7"])
    assert faults.kinds == [Quarantined.MESSAGE] * 2
    await client.until_count(topology.requests, 0)


async def test_only_a_broken_store_ends_the_consumer_and_its_messages_stay_in_the_queue(
    link: LinkOptions, client: Client, topology: Topology, inbound: FakeInbound
):
    """They were dead-lettered, although nothing was wrong with them."""
    inbound.errors = [StoreBroken("disk I/O error")] * 20
    inbound.gate.clear()
    consumer = consumer_for(link, topology, inbound)
    consuming = asyncio.create_task(consumer.run())
    await eventually(lambda: consumer.ready)
    for number in range(20):
        await client.send(message_id=f"order-{number}")
    await eventually(lambda: consumer.in_progress == 20)
    inbound.gate.set()
    with pytest.raises(StoreBroken):
        await consuming
    await client.until_count(topology.requests, 20)
    assert await client.count(topology.dead) == 0


async def test_after_a_bug_while_connecting_the_connection_is_made_again(
    monkeypatch: pytest.MonkeyPatch, link: LinkOptions, topology: Topology, inbound: FakeInbound
):
    faults, bugs = Faults(), [ZeroDivisionError("a bug")]

    async def buggy(*args: Any) -> Any:
        if bugs:
            raise bugs.pop()
        return await ensure_inbound(*args)

    monkeypatch.setattr("bridge.adapters.amqp.consumer.ensure_inbound", buggy)
    consumer = consumer_for(replace(link, report=faults), topology, inbound)
    async with running(consumer):
        await eventually(lambda: consumer.ready)
    assert faults.kinds == [Quarantined.TASK]


async def test_a_rejected_message_reaches_the_dead_letter_queue(
    client: Client, topology: Topology, consumer: AmqpConsumer
):
    """Messages dead-lettered by the broker go through the default exchange to the dead-letter queue."""
    consumer.stop()
    await eventually(lambda: not consumer.ready)
    await client.send(message_id="order-7")
    queue = await client.channel.get_queue(topology.requests, ensure=False)
    message = await queue.get()
    assert message is not None
    await message.reject(requeue=False)
    dead = (await client.receive(topology.dead))[0]
    assert (dead.message_id, dead.headers["x-first-death-reason"]) == ("order-7", "rejected")
