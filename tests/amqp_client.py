"""Helpers for tests with RabbitMQ: a producer and consumer, and fakes of the ports behind the consumer."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aio_pika import Message, connect
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from structlog.testing import capture_logs

from bridge.adapters.amqp.messages import MessageRules
from bridge.adapters.amqp.publisher import AmqpPublisher
from bridge.adapters.amqp.topology import Topology
from bridge.core.delivery.model import Channel, Delivery, Destination, Event
from bridge.core.delivery.outcome import Confirmed
from bridge.core.errors import StoreUnavailable
from bridge.core.runs import state_machine
from bridge.core.runs.commands import RunCommand
from bridge.core.runs.model import Envelope, KickoffRequest
from bridge.ports.inbound import Accepted, RefusedMessage, RunKey
from bridge.ports.lifecycle import Service
from tests.patience import PATIENCE

MAX_MESSAGE = 64 * 1024
BODY = {"crew": "research", "inputs": {"topic": "otters"}}


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition, plain or awaitable, holds that no event signals."""
    async with asyncio.timeout(PATIENCE):
        while not await _value(condition()):  # noqa: ASYNC110 - the broker's counts, and states without a signal
            await asyncio.sleep(0.01)


async def _value(result: object) -> object:
    return await result if inspect.isawaitable(result) else result


@asynccontextmanager
async def running(*services: Service) -> AsyncIterator[None]:
    """Run the services for the duration of the block; a bug in one of them is raised at the end."""
    tasks = [asyncio.create_task(service.run()) for service in services]
    try:
        yield
    finally:
        for service in services:
            service.stop()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*tasks)


async def confirmed(publisher: AmqpPublisher, queue: str) -> bool:
    """Whether the broker confirms a message within the publisher's limit, which may be short for a busy machine."""
    return await publisher.send(delivery(Channel.QUEUE, queue)) == Confirmed()


@contextmanager
def connection_kept() -> Iterator[None]:
    """No connection to the broker is opened or lost in the block."""
    with capture_logs() as logs:
        yield
    assert {line["event"] for line in logs}.isdisjoint({"broker_disconnected", "broker_connected"}), logs


@dataclass
class FakeInbound:
    """Accepts requests and refused messages; `gate` holds requests, `errors` are raised first, one per call.

    `unavailable`: its store is unavailable.
    """

    accepted: list[tuple[KickoffRequest, Envelope]] = field(default_factory=list)
    refused: list[RefusedMessage] = field(default_factory=list)
    commands: list[tuple[str | RunKey, RunCommand, str]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    unavailable: bool = False
    probes: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    async def accept(self, request: KickoffRequest, envelope: Envelope) -> Accepted:
        self.entered.set()
        await self.gate.wait()
        self._raise_if_away()
        if self.errors:
            raise self.errors.pop(0)
        self.accepted.append((request, envelope))
        return Accepted(state_machine.accept(request, envelope, f"run-{len(self.accepted)}", 0.0), replayed=False)

    async def apply_command(self, wanted: str | RunKey, command: RunCommand, by: str) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.commands.append((wanted, command, by))

    async def refuse(self, message: RefusedMessage) -> None:
        self.refused.append(message)

    async def probe(self, size: int) -> None:
        """Like that of the store; `size` is the size of the messages that it could not store."""
        self.probes += 1
        await self.gate.wait()
        self._raise_if_away()

    def _raise_if_away(self) -> None:
        if self.unavailable:
            raise StoreUnavailable("disk full")

    @property
    def keys(self) -> list[str | None]:
        return [request.idempotency_key for request, _ in self.accepted]


class Client:
    """A producer and consumer."""

    def __init__(self, channel: AbstractChannel, topology: Topology) -> None:
        self.channel = channel
        self._topology = topology

    async def send(
        self, body: Any = BODY, key: str | None = None, *, exchange: str | None = None, **properties: Any
    ) -> None:
        """Publish a request: to the exchange with a routing key, or directly to the queue."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        message = Message(raw, **properties)
        if exchange is None:
            await self.channel.default_exchange.publish(message, key or self._topology.requests)
        else:
            to = await self.channel.get_exchange(exchange, ensure=False)
            await to.publish(message, key or "")

    async def count(self, queue: str) -> int:
        """The number of ready messages in the queue."""
        declared = await self.channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0

    async def until_count(self, queue: str, wanted: int) -> None:
        """Wait until the queue holds this many messages; requeued and dead-lettered ones arrive a little later."""

        async def reached() -> bool:
            return await self.count(queue) == wanted

        await eventually(reached)

    async def receive(self, queue: str, count: int = 1) -> list[AbstractIncomingMessage]:
        """Consume this many messages from a queue."""
        source = await self.channel.get_queue(queue, ensure=False)
        found: list[AbstractIncomingMessage] = []
        async with asyncio.timeout(PATIENCE):
            while len(found) < count:
                message = await source.get(no_ack=True, fail=False)
                if message is None:
                    await asyncio.sleep(0.01)
                else:
                    found.append(message)
        return found


@asynccontextmanager
async def client_of(url: str, topology: Topology) -> AsyncIterator[Client]:
    connection = await connect(url, timeout=PATIENCE)
    async with connection, connection.channel(on_return_raises=True) as channel:
        yield Client(channel, topology)


def rules_for(topology: Topology) -> MessageRules:
    return MessageRules(topology.requests, MAX_MESSAGE, ("reply.*", "amq.rabbitmq.reply-to.*"))


def delivery(
    channel: Channel,
    target: str,
    event_id: str = "run-1-succeeded",
    headers: Mapping[str, str | int | float | bool] | None = None,
    **changes: Any,
) -> Delivery:
    """An event as the store returns it."""
    body = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/crews/research",
        "type": "run.succeeded",
        "subject": "run-1",
        "time": "2026-11-23T18:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {"run_id": "run-1", "result": "Füchse"},
    }
    event: dict[str, Any] = {
        "event_id": event_id,
        "type": "run.succeeded",
        "body": json.dumps(body, ensure_ascii=False).encode(),
        "content_type": "application/cloudevents+json",
        "created_at": 1_795_000_000.0,
        "correlation_id": "order-7",
        "headers": headers or {"run_id": "run-1", "crew": "research"},
    }
    return Delivery(f"{event_id}-1", Event(**(event | changes)), Destination(channel, target))
