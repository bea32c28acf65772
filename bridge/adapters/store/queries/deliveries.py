"""Deliveries: what became of attempts, lists, and sending again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, delete, select, update

from bridge.adapters.store import dialect
from bridge.adapters.store.bulk_statement import BulkStatement
from bridge.adapters.store.queries.accept import insert_deliveries
from bridge.adapters.store.rows import Values, new_attempt
from bridge.adapters.store.schema import deliveries, delivery_attempts, events, receivers
from bridge.core.delivery.model import Delivery, DeliveryState, Receiver
from bridge.core.delivery.outcome import DeliveryOutcome
from bridge.ports.queries import DeliveryFilter

MAX_ATTEMPTS = 50  # kept of each delivery; operator destinations are retried forever


@dataclass(frozen=True, slots=True)
class OwnedOutcome:
    """What became of a delivery, according to the process that claimed it."""

    process: str
    outcome: DeliveryOutcome


def write_outcomes(connection: Connection, written: Sequence[OwnedOutcome]) -> list[None]:
    """Write what became of deliveries, and release them; skip those that the process no longer owns."""
    _UPDATE_DELIVERY.execute(connection, [_delivery_values(item) for item in written])
    outcomes = [item.outcome for item in written]
    _add_attempts(connection, outcomes)
    changed_receivers = {one.receiver.name: one.receiver for one in outcomes if one.receiver is not None}
    _add_notices(connection, [notice for one in outcomes for notice in one.notices])
    _store_receivers(connection, list(changed_receivers.values()))
    return [None] * len(written)


_UPDATE_DELIVERY = BulkStatement(
    lambda _: (
        update(deliveries)
        .where(deliveries.c.delivery_id == bindparam("of_delivery"), deliveries.c.owner == bindparam("by_process"))
        .values(
            {name: bindparam(name) for name in ("state", "attempts", "due_at", "last_error", "delivered_at")}
            | {"owner": None},
        )
    )
)


_INSERT_ATTEMPT = BulkStatement(lambda connection: dialect.insert_new(connection, delivery_attempts))


def _delivery_values(written: OwnedOutcome) -> Values:
    delivery = written.outcome.delivery
    return {
        "of_delivery": delivery.delivery_id,
        "by_process": written.process,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "due_at": delivery.due_at,
        "last_error": delivery.last_error,
        "delivered_at": delivery.delivered_at,
    }


def _add_attempts(connection: Connection, outcomes: Sequence[DeliveryOutcome]) -> None:
    """Of two processes that tried the same delivery, one does not know that it has lost it: the first one stays."""
    rows = [new_attempt(one.delivery.delivery_id, one.attempt) for one in outcomes]
    _INSERT_ATTEMPT.execute(connection, rows)
    for one in outcomes:
        if one.attempt.number > MAX_ATTEMPTS:
            of_delivery = delivery_attempts.c.delivery_id == one.delivery.delivery_id
            old = delivery_attempts.c.number <= one.attempt.number - MAX_ATTEMPTS
            connection.execute(delete(delivery_attempts).where(of_delivery, old))


def _store_receivers(connection: Connection, known: Sequence[Receiver]) -> None:
    if not known:
        return
    rows = [
        {"receiver": one.name, "failing_since": one.failing_since, "paused_at": one.paused_at}
        for one in sorted(known, key=lambda one: one.name)  # in order, or two processes could wait for each other
    ]
    connection.execute(dialect.insert_or_replace(connection, receivers), rows)


def _add_notices(connection: Connection, notices: Sequence[Delivery]) -> None:
    """Each once: several attempts may find at the same moment that their receiver is to be paused."""
    if not notices:
        return
    by_id = {notice.event.event_id: notice for notice in notices}
    query = select(events.c.event_id).where(events.c.event_id.in_(list(by_id)))
    told = set(connection.execute(query).scalars())
    insert_deliveries(connection, [notice for event_id, notice in by_id.items() if event_id not in told])


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
