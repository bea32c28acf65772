"""Having deliveries sent again."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select, update

from bridge.adapters.store.tables import deliveries, events, receivers
from bridge.core.model import DeliveryState
from bridge.ports import DeliveryFilter


def redeliver(connection: Connection, which: DeliveryFilter, now: float) -> int:
    """Make deliveries pending again, due at once, and forget that their receivers were paused; how many."""
    free = (*_conditions(which), deliveries.c.owner.is_(None))
    named = select(deliveries.c.receiver).join(events).where(*free, deliveries.c.receiver.is_not(None))
    paused = receivers.c.paused_at.is_not(None)
    connection.execute(delete(receivers).where(paused, receivers.c.receiver.in_(named)))
    wanted = select(deliveries.c.delivery_id).join(events).where(*free)
    again = {
        "state": DeliveryState.PENDING.value,
        "earlier_attempts": deliveries.c.attempts,
        "due_at": now,
        "delivered_at": None,
    }
    changed = connection.execute(update(deliveries).where(deliveries.c.delivery_id.in_(wanted)).values(again))
    return changed.rowcount


def _conditions(which: DeliveryFilter) -> list[ColumnElement[bool]]:
    matches: list[tuple[Any, Callable[[Any], ColumnElement[bool]]]] = [
        (which.delivery_id, deliveries.c.delivery_id.__eq__),
        (which.state, deliveries.c.state.__eq__),
        (which.crew, deliveries.c.crew.__eq__),
        (which.crews, deliveries.c.crew.in_),
        (which.run_id, events.c.run_id.__eq__),
        (which.since, events.c.created_at.__ge__),
        (which.until, events.c.created_at.__lt__),
        (which.before, deliveries.c.delivery_id.__lt__),
    ]
    return [matching(value) for value, matching in matches if value is not None]
