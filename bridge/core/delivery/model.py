"""Values of delivery: events, destinations, receivers, deliveries and their attempts; frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Channel(StrEnum):
    """How an event is sent; `QUEUE`: the reply queue of a requester."""

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
    """All callback URLs with the same scheme, host, and port (`name`).

    `failing_since`: every attempt has failed since then; None: it accepted the last event. `paused_at`: after days of
    failures, it receives nothing until an operator resumes it.
    """

    name: str
    failing_since: float | None = None
    paused_at: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One message to deliver, with the same bytes on every attempt.

    A CloudEvent, or a refused message for the dead queue (`type` "dead_letter"). `headers` become message headers on
    RabbitMQ.
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
    """The state of a delivery; `DEAD`: no longer retried, kept for an operator."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one destination, kept until confirmed. `due_at`: when the next attempt is due.

    `attempts` counts all attempts, `earlier_attempts` those before the last redelivery, which restarts the retry
    schedule. `receiver`: the stored state of a callback's receiver; None: not stored yet. `requested`: false for a
    callback URL that the request does not name, so that the settings have to.
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
    requested: bool = field(default=True, compare=False)

    @property
    def traceparent(self) -> str | None:
        """The trace context of the event's run; a refused message is sent with its own headers."""
        stored = self.event.headers.get("traceparent")
        return str(stored) if stored is not None and self.event.run_id is not None else None

    @property
    def paused(self) -> bool:
        """Whether the delivery waits for its receiver to be resumed."""
        return self.state is DeliveryState.PENDING and self.receiver is not None and self.receiver.paused_at is not None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a delivery; `number` counts from 1, `seconds` is its duration, `error` is None on success.

    `code` and `response`: the HTTP status and the start of the body, if a callback was answered.
    """

    number: int
    at: float
    seconds: float
    error: str | None = None
    code: int | None = None
    response: bytes | None = None
