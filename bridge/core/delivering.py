"""What becomes of a delivery after an attempt."""

from dataclasses import dataclass, replace
from typing import assert_never

from bridge.core import schedule
from bridge.core.model import Delivery, DeliveryState


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The receiver has it: a publisher confirm without a return, or a 2xx."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The receiver wants no more of it (410), or may never be called (a forbidden address)."""

    reason: str


@dataclass(frozen=True, slots=True)
class TryAgain:
    """It may or may not have arrived, or was refused for now; `after`: seconds asked for by the receiver."""

    reason: str
    after: float | None = None


DeliveryAnswer = Confirmed | Gone | TryAgain


def on_delivery(delivery: Delivery, answer: DeliveryAnswer, now: float) -> Delivery:
    """The delivery's next row."""
    attempted = replace(delivery, attempts=delivery.attempts + 1)
    match answer:
        case Confirmed():
            return replace(attempted, state=DeliveryState.DELIVERED, delivered_at=now, last_error=None)
        case Gone(reason):
            return replace(attempted, state=DeliveryState.DEAD, last_error=reason)
        case TryAgain(reason, after):
            return _later(replace(attempted, last_error=reason), now, after)
        case _:
            assert_never(answer)


def _later(delivery: Delivery, now: float, after: float | None) -> Delivery:
    channel = delivery.destination.channel
    due_at = schedule.deliver_again(delivery.delivery_id, channel, delivery.attempts, now, after)
    if due_at is None:
        return replace(delivery, state=DeliveryState.DEAD)
    return replace(delivery, due_at=due_at)
