"""A message that the broker refuses by closing the channel costs no other message."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.adapters.amqp import refusals
from bridge.adapters.amqp.connection import AmqpLink, LinkOptions
from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.adapters.amqp.topology import Topology
from bridge.core.delivery.events import dead_letter
from bridge.core.delivery.model import Channel, Delivery, Destination
from bridge.core.delivery.outcome import Confirmed, Retryable, Undeliverable
from tests.amqp_client import Client, connection_kept, delivery, eventually, running
from tests.broker import MAX_MESSAGE, Broker

OTHERS = 40
LIMIT = 100_000
LARGE: dict[str, Any] = {"body": b" " * (LIMIT + 1), "content_type": "text/plain"}


@pytest.fixture
async def publisher(link: LinkOptions, topology: Topology) -> AsyncIterator[AmqpPublisher]:
    publisher = AmqpPublisher(link, topology)
    async with running(publisher):
        await eventually(lambda: publisher.ready)
        yield publisher


@asynccontextmanager
async def small_messages_only(broker: Broker) -> AsyncIterator[None]:
    """Applies to channels opened from now on. RabbitMQ 4 reads the size from another place than 3."""
    setting = "application:set_env(rabbit, max_message_size, {0}), persistent_term:put(max_message_size, {0})."
    await asyncio.to_thread(broker.ctl, "eval", setting.format(LIMIT))
    try:
        yield
    finally:
        await asyncio.to_thread(broker.ctl, "eval", setting.format(MAX_MESSAGE))


async def send_among_others(publisher: AmqpPublisher, refused: Delivery, queue: str) -> tuple[object, list[object]]:
    """The outcome of one delivery, and those of others in flight at the same time."""
    sent = [delivery(Channel.QUEUE, queue, f"{refused.delivery_id}-{number}") for number in range(OTHERS)]
    sent.insert(OTHERS // 2, refused)
    responses: list[object] = list(await asyncio.gather(*(publisher.send(one) for one in sent)))
    return responses.pop(OTHERS // 2), responses


async def test_a_message_too_large_for_the_broker_costs_no_other(
    broker: Broker, link: LinkOptions, topology: Topology, client: Client
):
    """Each attempt closed the shared channel: copies of the other messages, and pauses of up to 8 s."""
    await client.channel.declare_queue("reply.orders", exclusive=True)
    publisher = AmqpPublisher(link, topology)
    async with small_messages_only(broker), running(publisher):
        await eventually(lambda: publisher.ready)
        first, others = await send_among_others(
            publisher, delivery(Channel.QUEUE, "reply.orders", "large", **LARGE), "reply.orders"
        )
        assert isinstance(first, Undeliverable)
        assert f"larger than configured max size {LIMIT}" in first.reason
        assert others == [Confirmed()] * OTHERS
        copies = await client.count("reply.orders") - OTHERS
        assert copies < OTHERS

        dead = dead_letter("dead", b" " * (LIMIT + 1), None, {}, 1_795_000_000.0)
        to_dead_queue = Delivery("d", dead, Destination(Channel.DEAD_LETTER, topology.dead))
        with connection_kept():
            second, others = await send_among_others(publisher, to_dead_queue, "reply.orders")
        assert isinstance(second, Undeliverable)
        assert others == [Confirmed()] * OTHERS
        assert await client.count("reply.orders") == 2 * OTHERS + copies, "another one of this kind costs no copies"


async def test_a_refused_routing_key_costs_no_other(
    publisher: AmqpPublisher, broker: Broker, topology: Topology, client: Client
):
    """A missing topic permission may be granted, so the event waits; the message of the broker names it."""
    await client.channel.declare_queue("reply.orders", exclusive=True)
    await asyncio.to_thread(broker.ctl, "set_topic_permissions", "guest", topology.results, "^allowed", ".*")
    refused = delivery(Channel.EXCHANGE, "research.succeeded", "refused")
    first, others = await send_among_others(publisher, refused, "reply.orders")
    assert isinstance(first, Retryable)
    assert "access to topic 'research.succeeded'" in first.reason
    assert first.after == 3600.0
    assert others == [Confirmed()] * OTHERS
    copies = await client.count("reply.orders") - OTHERS
    with connection_kept():
        assert await publisher.send(delivery(Channel.EXCHANGE, "research.succeeded", "refused-2")) == first
        second, others = await send_among_others(publisher, refused, "reply.orders")
    assert second == first
    assert others == [Confirmed()] * OTHERS
    assert await client.count("reply.orders") == 2 * OTHERS + copies


async def test_a_granted_permission_is_noticed(
    publisher: AmqpPublisher, broker: Broker, topology: Topology, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(refusals, "REFUSED_SECONDS", 0.0)
    await asyncio.to_thread(broker.ctl, "set_topic_permissions", "guest", topology.results, "^allowed", ".*")
    queue = await client.channel.declare_queue(exclusive=True)
    await queue.bind(topology.results, "#")
    event = delivery(Channel.EXCHANGE, "research.succeeded")
    assert isinstance(await publisher.send(event), Retryable)
    await asyncio.to_thread(broker.ctl, "set_topic_permissions", "guest", topology.results, ".*", ".*")
    assert await publisher.send(event) == Confirmed()


async def test_the_broker_decides_the_size_of_dead_letters(
    publisher: AmqpPublisher, topology: Topology, client: Client
):
    """A fixed limit kept a message of more than 16 MiB out of the dead-letter queue, whatever the broker accepts."""
    event = dead_letter("large", b" " * (17 * 1024 * 1024), None, {}, 1_795_000_000.0)
    assert await publisher.send(Delivery("d", event, Destination(Channel.DEAD_LETTER, topology.dead))) == Confirmed()
    await client.until_count(topology.dead, 1)


async def test_invalid_reply_addresses_share_one_connection(
    publisher: AmqpPublisher, client: Client, monkeypatch: pytest.MonkeyPatch
):
    """Each took a connection of its own; those that wait too long are retried later, and occupy no slot of others."""
    await client.channel.declare_queue("reply.orders", exclusive=True)
    opened, most, connect = 0, 0, AmqpLink.connect

    async def counted(link: AmqpLink, purpose: str) -> object:
        nonlocal opened, most
        opened += 1
        most = max(most, opened)
        connection = await connect(link, purpose)
        connection.close_callbacks.add(lambda *_: left())
        return connection

    def left() -> None:
        nonlocal opened
        opened -= 1

    monkeypatch.setattr(AmqpLink, "connect", counted)
    names = [f"amq.rabbitmq.reply-to.g1h2AA5yZXBseUA{number}.abc" for number in range(40)]
    made_up = [publisher.send(delivery(Channel.QUEUE, name, f"made-up-{name}")) for name in names]
    responses, other = await asyncio.gather(
        asyncio.gather(*made_up), publisher.send(delivery(Channel.QUEUE, "reply.orders", "other"))
    )
    assert other == Confirmed()
    assert most <= 1
    assert {type(result) for result in responses} <= {Undeliverable, Retryable}
    gone = names[[isinstance(result, Undeliverable) for result in responses].index(True)]
    monkeypatch.delattr(AmqpLink, "connect")
    assert isinstance(await publisher.send(delivery(Channel.QUEUE, gone, "again")), Undeliverable), (
        "known without asking"
    )
