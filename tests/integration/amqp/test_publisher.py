"""The publisher against a real broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest
from aio_pika import Message, connect
from cloudevents.core.bindings import amqp
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from bridge.adapters.amqp.connection import LinkOptions
from bridge.adapters.amqp.inbound_message import InboundMessage
from bridge.adapters.amqp.messages import read_refused
from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.adapters.amqp.topology import Topology
from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery.events import dead_letter, with_event
from bridge.core.delivery.model import Channel, Delivery, Destination
from bridge.core.delivery.outcome import Confirmed, Retryable, Undeliverable, Unroutable
from bridge.core.errors import RequestRefused
from bridge.core.runs.model import Outcome
from tests.amqp_client import Client, confirmed, connection_kept, delivery, eventually, rules_for, running
from tests.broker import Broker
from tests.fakes import a_run
from tests.patience import PATIENCE


@pytest.fixture
async def publisher(link: LinkOptions, topology: Topology) -> AsyncIterator[AmqpPublisher]:
    publisher = AmqpPublisher(link, topology)
    async with running(publisher):
        await eventually(lambda: publisher.ready)
        yield publisher


async def bind(client: Client, queue: str, exchange: str, key: str = "#") -> str:
    """Bind a new queue to the results exchange; return its name."""
    declared = await client.channel.declare_queue(queue, exclusive=True)
    await declared.bind(exchange, key)
    return queue


async def test_events_are_published_to_the_results_exchange(
    publisher: AmqpPublisher, client: Client, topology: Topology
):
    """With the stored body; id, type, correlation id, time, and headers as properties; persistent."""
    queue = await bind(client, "taker", topology.results, "research.*")
    sent = delivery(Channel.EXCHANGE, "research.succeeded")
    assert await publisher.send(sent) == Confirmed()
    message = (await client.receive(queue))[0]
    assert message.body == sent.event.body
    assert (message.message_id, message.type, message.correlation_id) == (
        "run-1-succeeded",
        "run.succeeded",
        "order-7",
    )
    assert message.content_type == "application/cloudevents+json"
    assert message.timestamp is not None
    assert message.timestamp.timestamp() == sent.event.created_at
    assert (message.headers, message.delivery_mode) == ({"run_id": "run-1", "crew": "research"}, 2)


async def test_without_results_events_for_the_exchange_are_dead(link: LinkOptions, topology: Topology):
    """Deliveries stored before the setting was changed do not go to a queue named like the routing key."""
    publisher = AmqpPublisher(link, replace(topology, publishes_results=False))
    async with running(publisher):
        await eventually(lambda: publisher.ready)
        result = await publisher.send(delivery(Channel.EXCHANGE, "research.succeeded"))
        assert result == Undeliverable("the setting amqp.results is none")


async def test_an_unroutable_event_is_retried(publisher: AmqpPublisher):
    """A returned message counts as undelivered, although the broker acks it."""
    result = await publisher.send(delivery(Channel.EXCHANGE, "research.succeeded"))
    assert result == Unroutable("unroutable: no queue is bound for 'research.succeeded'")


async def test_one_event_to_two_destinations_at_once(publisher: AmqpPublisher, client: Client, topology: Topology):
    """With one id twice in flight the library confuses the confirms: the unroutable event would count as delivered."""
    await client.channel.declare_queue("reply.orders", exclusive=True)
    for number in range(20):
        event_id = f"run-{number}-succeeded"
        responses = await asyncio.gather(
            publisher.send(delivery(Channel.EXCHANGE, "unknown.succeeded", event_id)),
            publisher.send(delivery(Channel.QUEUE, "reply.orders", event_id)),
        )
        assert isinstance(responses[0], Retryable)
        assert responses[1] == Confirmed()
    assert await client.count("reply.orders") == 20


async def test_many_events_are_published_concurrently(publisher: AmqpPublisher, client: Client):
    """In a window of unconfirmed messages; unroutable ones do not affect the others."""
    await client.channel.declare_queue("reply.many", exclusive=True)
    targets = ["reply.gone" if number % 10 == 0 else "reply.many" for number in range(300)]
    sends = (publisher.send(delivery(Channel.QUEUE, target, f"event-{n}")) for n, target in enumerate(targets))
    responses = await asyncio.gather(*sends)
    assert [type(result) for result in responses] == [
        Unroutable if target == "reply.gone" else Confirmed for target in targets
    ]
    assert await client.count("reply.many") == 270


async def test_an_event_for_a_full_queue_is_retried(publisher: AmqpPublisher, client: Client):
    """`reject-publish` responds with a nack."""
    arguments: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
    await client.channel.declare_queue("reply.small", exclusive=True, arguments=arguments)
    responses = [await publisher.send(delivery(Channel.QUEUE, "reply.small", f"event-{n}")) for n in range(3)]
    assert responses[0] == Confirmed()
    assert "nack" in str(responses[-1])


async def test_a_missing_exchange_fails_events_in_flight_only(
    publisher: AmqpPublisher, client: Client, topology: Topology
):
    """The broker closes the channel and fails everything in flight.

    A new channel opens at once and declares the exchange.
    """
    await client.channel.declare_queue("reply.orders", exclusive=True)
    await client.channel.exchange_delete(topology.results)
    responses = await asyncio.gather(
        publisher.send(delivery(Channel.EXCHANGE, "research.succeeded", "event-1")),
        publisher.send(delivery(Channel.QUEUE, "reply.orders", "event-2")),
    )
    assert isinstance(responses[0], Retryable)
    await eventually(lambda: not publisher.ready)
    await eventually(lambda: publisher.ready)
    assert await publisher.send(delivery(Channel.QUEUE, "reply.orders", "event-2")) == Confirmed()
    await bind(client, "taker", topology.results)
    assert await publisher.send(delivery(Channel.EXCHANGE, "research.succeeded", "event-1")) == Confirmed()


async def test_direct_reply_to(publisher: AmqpPublisher, broker: Broker, client: Client, topology: Topology):
    """A waiting client receives its event; after it has disconnected, the delivery is dead instead of confirmed."""
    await client.channel.declare_queue("requests", exclusive=True)
    connection = await connect(broker.url)
    async with connection.channel() as channel:
        responses: asyncio.Queue[bytes] = asyncio.Queue()
        pseudo_queue = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)

        async def on_answer(message: Message) -> None:
            responses.put_nowait(message.body)

        await pseudo_queue.consume(on_answer, no_ack=True)  # type: ignore[arg-type]
        question = Message(b"?", reply_to="amq.rabbitmq.reply-to")
        await channel.default_exchange.publish(question, "requests")
        reply_to = (await client.receive("requests"))[0].reply_to
        assert reply_to is not None
        sent = delivery(Channel.QUEUE, reply_to)
        assert await publisher.send(sent) == Confirmed()
        assert await asyncio.wait_for(responses.get(), PATIENCE) == sent.event.body
    await connection.close()
    assert isinstance(await publisher.send(sent), Undeliverable)


async def test_an_invalid_reply_address_affects_no_other_delivery(publisher: AmqpPublisher):
    """The broker closes the connection for such a name; it is not the connection that others use."""
    sent = delivery(Channel.QUEUE, "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA.abc")
    with connection_kept():
        assert isinstance(await publisher.send(sent), Undeliverable)


async def test_many_invalid_reply_addresses_all_fail(publisher: AmqpPublisher):
    """After the first, the closed connection was used again and again: no client received an event any more."""
    names = [f"amq.rabbitmq.reply-to.g1h2AA5yZXBseUA{number}.abc" for number in range(10)]
    responses = await asyncio.gather(*(publisher.send(delivery(Channel.QUEUE, name, name)) for name in names))
    assert [type(result) for result in responses] == [Undeliverable] * 10


async def test_a_link_to_a_large_result_is_an_attribute_in_binary_mode(
    link: LinkOptions, topology: Topology, client: Client
):
    publisher = AmqpPublisher(link, topology, "binary")
    run = replace(a_run(), outcome=Outcome("x" * 20_000_000))  # more than RabbitMQ would accept
    policy = CrewPolicy(results_exchange=True, api_url="https://bridge.example")
    [large] = with_event(run, "run.succeeded", policy, 0.0).deliveries
    async with running(publisher):
        await eventually(lambda: publisher.ready)
        queue = await bind(client, "taker", topology.results)
        assert await publisher.send(large) == Confirmed()
    message = (await client.receive(queue))[0]
    assert message.headers["cloudEvents_dataref"] == f"https://bridge.example/v1/runs/{run.run_id}/result"
    assert json.loads(message.body)["result"] is None


async def test_binary_mode(link: LinkOptions, topology: Topology, client: Client):
    """The CloudEvents SDK reads the event; each attribute is the same text as in structured mode."""
    publisher = AmqpPublisher(link, topology, "binary")
    async with running(publisher):
        await eventually(lambda: publisher.ready)
        queue = await bind(client, "taker", topology.results)
        assert await publisher.send(delivery(Channel.EXCHANGE, "research.succeeded")) == Confirmed()
    message = (await client.receive(queue))[0]
    assert message.content_type == "application/json"
    headers = dict(message.headers)
    assert all(isinstance(value, str) for value in headers.values())
    received = amqp.AMQPMessage({"content-type": message.content_type}, headers, message.body)
    event = amqp.from_binary(received, JSONFormat(), CloudEvent)
    assert (event.get_id(), event.get_source()) == ("run-1-succeeded", "/crews/research")
    structured = json.loads(delivery(Channel.EXCHANGE, "x").event.body)
    assert event.get_data() == structured["data"]
    attributes = {name.removeprefix("cloudEvents_"): value for name, value in headers.items() if "cloudEvents_" in name}
    assert attributes == {name: text for name, text in structured.items() if name not in ("data", "datacontenttype")}


async def test_a_dead_letter_is_the_unchanged_message(publisher: AmqpPublisher, client: Client, topology: Topology):
    """Its properties are restored so that it can be replayed; the reason is added."""
    headers: dict[str, str | int | float | bool] = {
        "tenant": "a",
        "x-share": 0.5,
        "x-bridge-reason": "invalid_json",
        "x-bridge-original-message_id": "order-7",
        "x-bridge-original-type": "kickoff",
        "x-bridge-original-app_id": "shop",
        "x-bridge-original-priority": 7,
        "x-bridge-original-routing_key": "research",
    }
    event = dead_letter("event-9", b"{oops", "application/json", headers, 1_795_000_000.0)
    assert await publisher.send(Delivery("d", event, Destination(Channel.DEAD_LETTER, topology.dead))) == Confirmed()
    message = (await client.receive(topology.dead))[0]
    assert (message.body, message.content_type) == (b"{oops", "application/json")
    assert (message.message_id, message.type, message.app_id, message.priority) == ("order-7", "kickoff", "shop", 7)
    assert (message.headers["x-share"], message.headers["x-bridge-reason"]) == (0.5, "invalid_json")
    assert message.headers["x-bridge-original-routing_key"] == "research"


async def test_a_dead_letter_without_a_content_type_has_none(
    publisher: AmqpPublisher, client: Client, topology: Topology
):
    """It was published with `application/octet-stream`, which its producer had not set."""
    event = dead_letter("event-9", b"{oops", None, {}, 1_795_000_000.0)
    assert await publisher.send(Delivery("d", event, Destination(Channel.DEAD_LETTER, topology.dead))) == Confirmed()
    assert (await client.receive(topology.dead))[0].content_type is None


async def test_the_largest_dead_letter_fits_a_frame(publisher: AmqpPublisher, client: Client, topology: Topology):
    """A message whose headers filled a frame, refused with the longest message: it must not break the connection."""
    properties = {"message_id": "m" * 255, "correlation_id": "c" * 255, "type": "t" * 255, "reply_to": "r" * 255}
    huge = {"tenant": "a", "filling": "x" * 129_800}
    await client.channel.declare_queue("huge", exclusive=True)
    await client.send(b"{oops", "huge", headers=huge, **properties)
    sent = (await client.receive("huge"))[0]
    refused = read_refused(cast("InboundMessage", sent), rules_for(topology), RequestRefused("invalid_json", "ü" * 500))
    headers = {**refused.headers, "x-bridge-reason": refused.code, "x-bridge-detail": refused.detail}
    event = dead_letter("event-9", refused.body, refused.content_type, headers, 1_795_000_000.0)
    with connection_kept():
        sent_on = Destination(Channel.DEAD_LETTER, topology.dead)
        assert await publisher.send(Delivery("d", event, sent_on)) == Confirmed()
    message = (await client.receive(topology.dead))[0]
    assert (message.body, message.message_id, message.headers["tenant"]) == (b"{oops", "m" * 255, "a")


@pytest.mark.parametrize(
    "sent",
    [
        delivery(Channel.QUEUE, "ü" * 128),
        delivery(Channel.QUEUE, "reply.a", correlation_id="ü" * 128),
        delivery(Channel.QUEUE, "reply.a", headers={"ü" * 128: "a"}),
    ],
    ids=["target", "correlation_id", "header"],
)
async def test_an_unencodable_event_is_undeliverable(publisher: AmqpPublisher, sent: Delivery):
    """It would close the channel and fail everything in flight at every attempt."""
    assert isinstance(await publisher.send(sent), Undeliverable)


async def detail_contains(publisher: AmqpPublisher, text: str) -> bool:
    return text in (await publisher.health()).detail


async def test_a_broker_alarm_pauses_the_publisher(
    link: LinkOptions, topology: Topology, broker: Broker, client: Client
):
    """While the broker accepts no messages, the sender is not ready, so that nothing accumulates on the connection."""
    await client.channel.declare_queue("reply.orders", exclusive=True)
    publisher = AmqpPublisher(replace(link, timeout=2.0), topology, confirm_limit=0.5)
    async with running(publisher):
        await eventually(lambda: publisher.ready)
        await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "absolute", "1")
        try:
            assert await publisher.send(delivery(Channel.QUEUE, "reply.orders")) == Retryable("no confirm in time")
            await eventually(lambda: not publisher.ready)
            await eventually(lambda: detail_contains(publisher, "respond"))
        finally:
            await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.9")
        await eventually(lambda: confirmed(publisher, "reply.orders"))


async def test_without_a_connection_no_attempt_is_made(link: LinkOptions, topology: Topology):
    """Nothing is lost, and no attempt counts."""
    publisher = AmqpPublisher(link, topology)
    assert not publisher.ready
    assert await publisher.send(delivery(Channel.QUEUE, "reply.a")) == Retryable("the broker is unavailable")
