"""Values of delivery: events, destinations, receivers, deliveries and their attempts; frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Channel(StrEnum):
    """How an event leaves the bridge; the dead queue is the operator's, other queues belong to the requester."""

    EXCHANGE = "exchange"
    QUEUE = "queue"
    DEAD_LETTER = "dead_letter"
    CALLBACK = "callback"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an event goes: `target` is a routing key on the results exchange, a queue's name, or a URL."""

    channel: Channel
    target: str


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who answers at some callback URLs: all those with the same scheme, host and port (`name`).

    `failing_since`: nothing but failures since then; None: it took the last event that it was sent. `paused_at`: it
    failed for days and receives nothing until an operator resumes it.
    """

    name: str
    failing_since: float | None = None
    paused_at: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One message to hand over, byte for byte the same on every attempt.

    Mostly a CloudEvent about a run; also a refused message on its way to the dead queue (`type` "dead_letter").
    `headers` become message headers on RabbitMQ.
    """

    event_id: str
    type: str
    body: bytes
    content_type: str
    created_at: float
    run_id: str | None = None
    crew: str | None = None
    correlation_id: str | None = None
    headers: Mapping[str, str | int | float | bool] = field(default_factory=dict)


class DeliveryState(StrEnum):
    """Where a delivery stands; dead means given up, kept for a human."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one destination, kept until confirmed. `due_at`: when to try (again).

    `attempts` were made in all, `earlier_attempts` of them before it was redelivered and its schedule began
    anew. `receiver` is what is known of the one that a callback goes to; None: nothing yet.
    """

    delivery_id: str
    event: Event
    destination: Destination
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    due_at: float = 0.0
    last_error: str | None = None
    delivered_at: float | None = None
    earlier_attempts: int = 0
    receiver: Receiver | None = None

    @property
    def paused(self) -> bool:
        """Whether it waits for its receiver to be resumed."""
        return self.state is DeliveryState.PENDING and self.receiver is not None and self.receiver.paused_at is not None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to hand a delivery over; `number` counts from 1, `seconds` is how long it took.

    `code` and `answer` are what a receiver of callbacks said, as far as it did: HTTP status, and the start of the body.
    `error` None: it was taken.
    """

    number: int
    at: float
    seconds: float
    error: str | None = None
    code: int | None = None
    answer: bytes | None = None
