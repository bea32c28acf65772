"""Decide what to store after an attempt at a delivery: the delivery, the attempt, and the state of its receiver."""

import math
from dataclasses import dataclass, field
from typing import assert_never

from bridge.core.delivery import events, receivers, retry
from bridge.core.delivery.model import Attempt, Delivery, DeliveryState, Receiver
from bridge.core.values import replace

MAX_EXCERPT = 1024  # bytes of a response body that are stored


@dataclass(frozen=True, slots=True)
class CallbackReply:
    """The HTTP response to a callback: the status, and the start of the body."""

    code: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The event was delivered: a publisher confirm without a return, or a 2xx."""

    reply: CallbackReply | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """The event will never be accepted (410), or its destination must not be called (a forbidden address)."""

    reason: str
    reply: CallbackReply | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Retryable:
    """The event may not have arrived, or was refused temporarily; `after`: the seconds of a `Retry-After`."""

    reason: str
    after: float | None = None
    reply: CallbackReply | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Unroutable(Retryable):
    """The broker returned the message because no queue is bound; counted separately, because an operator must act."""


@dataclass(frozen=True, slots=True)
class Withheld(Retryable):
    """The event was not sent, because this process's settings do not name its URL; those of another process may."""


SendResult = Confirmed | Undeliverable | Retryable


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """What to store after an attempt.

    `receiver`: the new state of the receiver; None: unchanged. `notices`: deliveries to add if this attempt pauses the
    receiver.
    """

    delivery: Delivery
    attempt: Attempt
    receiver: Receiver | None = None
    notices: tuple[Delivery, ...] = ()


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """What the settings define for deliveries.

    `unroutable_after`: for how many seconds an event is retried that no queue accepts. `notice_key`: the template of
    the routing keys of notices on the results exchange; None: there are no notices.
    """

    unroutable_after: float = math.inf
    notice_key: str | None = "{crew}.{event}"


DEFAULT_RULES = DeliveryRules()


def outcome_of_attempt(
    delivery: Delivery, result: SendResult, now: float, seconds: float = 0.0, rules: DeliveryRules = DEFAULT_RULES
) -> DeliveryOutcome:
    """Return the outcome of an attempt that ended now and took `seconds`."""
    attempted = _after_attempt(delivery, result, now)
    if isinstance(result, Unroutable) and _retried_for(attempted) >= rules.unroutable_after:
        attempted = replace(attempted, state=DeliveryState.DEAD)
    reply = result.reply
    attempt = Attempt(
        number=attempted.attempts,
        at=now - seconds,
        seconds=seconds,
        error=attempted.last_error,
        code=None if reply is None else reply.code,
        response=None if reply is None else reply.body[:MAX_EXCERPT],
    )
    receiver = _receiver_after(delivery, result, now)
    if receiver is None:
        return DeliveryOutcome(attempted, attempt)
    notices: tuple[Delivery, ...] = ()
    if receiver.paused_at is not None and rules.notice_key is not None:
        notices = (events.receiver_paused(attempted, receiver, rules.notice_key, now),)
    return DeliveryOutcome(replace(attempted, receiver=receiver), attempt, receiver, notices)


def on_internal_error(delivery: Delivery, now: float) -> DeliveryOutcome:
    """Return the outcome of an attempt that raised an unexpected exception; the receiver is unchanged."""
    why = "internal error; see item_quarantined in the log"
    dead = replace(delivery, state=DeliveryState.DEAD, attempts=delivery.attempts + 1, last_error=why)
    return DeliveryOutcome(dead, Attempt(dead.attempts, now, 0.0, why))


def _after_attempt(delivery: Delivery, result: SendResult, now: float) -> Delivery:
    number = delivery.attempts + 1
    match result:
        case Confirmed():
            confirmed = DeliveryState.DELIVERED
            return replace(delivery, attempts=number, state=confirmed, delivered_at=now, last_error=None)
        case Undeliverable(reason):
            return replace(delivery, attempts=number, state=DeliveryState.DEAD, last_error=reason)
        case Retryable(reason, after):
            return _rescheduled(replace(delivery, attempts=number, last_error=reason), now, after)
        case _:
            assert_never(result)


def _rescheduled(delivery: Delivery, now: float, after: float | None) -> Delivery:
    channel, failures = delivery.destination.channel, delivery.attempts - delivery.earlier_attempts
    due_at = retry.next_attempt_at(delivery.delivery_id, channel, failures, now, after)
    if due_at is None:
        return replace(delivery, state=DeliveryState.DEAD)
    return replace(delivery, due_at=due_at)


def _retried_for(delivery: Delivery) -> float:
    return retry.seconds_retried(delivery.destination.channel, delivery.attempts - delivery.earlier_attempts)


def _receiver_after(delivery: Delivery, result: SendResult, now: float) -> Receiver | None:
    """Return the new state of the receiver; None: unchanged. A 410 is a sign of life, a call not made is none."""
    name = receivers.receiver_name(delivery.destination)
    if name is None or isinstance(result, Withheld) or (isinstance(result, Undeliverable) and result.reply is None):
        return None
    if isinstance(result, Retryable):
        return receivers.after_failure(name, delivery.receiver, now)
    return receivers.after_success(name, delivery.receiver)
