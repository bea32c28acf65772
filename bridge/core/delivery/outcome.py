"""What becomes of a delivery after an attempt, and what the attempt tells of its receiver."""

from dataclasses import dataclass, field, replace
from typing import assert_never

from bridge.core.delivery import cloudevents, receivers, retry
from bridge.core.delivery.model import Attempt, Delivery, DeliveryState, Receiver

MAX_EXCERPT = 1024  # bytes of an answer that are kept


@dataclass(frozen=True, slots=True)
class CallbackReply:
    """What a receiver of callbacks said: the HTTP status, and the start of the body."""

    code: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The receiver has it: a publisher confirm without a return, or a 2xx."""

    reply: CallbackReply | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """The receiver wants no more of it (410), or may never be called (a forbidden address)."""

    reason: str
    reply: CallbackReply | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Retryable:
    """It may or may not have arrived, or was refused for now; `after`: seconds asked for by the receiver."""

    reason: str
    after: float | None = None
    reply: CallbackReply | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Unroutable(Retryable):
    """The broker gave it back, because no queue takes it; counted apart, since only a person can mend that."""


SendResult = Confirmed | Undeliverable | Retryable


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """What the store must hold after an attempt.

    `receiver`: what is now known of the receiver, None: nothing new. `notices`: deliveries to add, if the receiver is
    paused by this and was not before.
    """

    delivery: Delivery
    attempt: Attempt
    receiver: Receiver | None = None
    notices: tuple[Delivery, ...] = ()


def outcome_of_attempt(delivery: Delivery, answer: SendResult, now: float, seconds: float = 0.0) -> DeliveryOutcome:
    """What to write after an attempt that ended now and took `seconds`."""
    attempted = _next_row(delivery, answer, now)
    reply = answer.reply
    attempt = Attempt(
        number=attempted.attempts,
        at=now - seconds,
        seconds=seconds,
        error=attempted.last_error,
        code=None if reply is None else reply.code,
        answer=None if reply is None else reply.body[:MAX_EXCERPT],
    )
    receiver = _learned(delivery, answer, now)
    if receiver is None:
        return DeliveryOutcome(attempted, attempt)
    notices = (cloudevents.paused(attempted, receiver, now),) if receiver.paused_at is not None else ()
    return DeliveryOutcome(replace(attempted, receiver=receiver), attempt, receiver, notices)


def on_internal_error(delivery: Delivery, now: float) -> DeliveryOutcome:
    """What to write after an attempt that raised an unexpected exception; it says nothing of the receiver."""
    why = "internal error; see item_quarantined in the log"
    dead = replace(delivery, state=DeliveryState.DEAD, attempts=delivery.attempts + 1, last_error=why)
    return DeliveryOutcome(dead, Attempt(dead.attempts, now, 0.0, why))


def _next_row(delivery: Delivery, answer: SendResult, now: float) -> Delivery:
    attempted = replace(delivery, attempts=delivery.attempts + 1)
    match answer:
        case Confirmed():
            return replace(attempted, state=DeliveryState.DELIVERED, delivered_at=now, last_error=None)
        case Undeliverable(reason):
            return replace(attempted, state=DeliveryState.DEAD, last_error=reason)
        case Retryable(reason, after):
            return _later(replace(attempted, last_error=reason), now, after)
        case _:
            assert_never(answer)


def _later(delivery: Delivery, now: float, after: float | None) -> Delivery:
    channel, failures = delivery.destination.channel, delivery.attempts - delivery.earlier_attempts
    due_at = retry.deliver_again(delivery.delivery_id, channel, failures, now, after)
    if due_at is None:
        return replace(delivery, state=DeliveryState.DEAD)
    return replace(delivery, due_at=due_at)


def _learned(delivery: Delivery, answer: SendResult, now: float) -> Receiver | None:
    """What is news about the receiver; one that says that it wants no more is alive, one never called tells nothing."""
    name = receivers.receiver_name(delivery.destination)
    if name is None or (isinstance(answer, Undeliverable) and answer.reply is None):
        return None
    if isinstance(answer, Retryable):
        return receivers.after_failure(name, delivery.receiver, now)
    return receivers.after_success(name, delivery.receiver)
