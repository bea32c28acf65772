"""Writes the outcomes of delivery attempts, and redelivers."""

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

MAX_ATTEMPTS = 50  # kept per delivery, because some deliveries are retried without limit


@dataclass(frozen=True, slots=True)
class OwnedOutcome:
    """The outcome of an attempt, and the process that owns the delivery."""

    process: str
    outcome: DeliveryOutcome


def write_outcomes(connection: Connection, written: Sequence[OwnedOutcome]) -> list[None]:
    """Write outcomes and release the deliveries; skip those that the process no longer owns."""
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


_INSERT_ATTEMPT = BulkStatement(lambda connection: dialect.insert_or_ignore(connection, delivery_attempts))


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
    """Insert attempts. Of two with the same number, one is by a former owner of the delivery; the first is kept."""
    rows = [new_attempt(one.delivery.delivery_id, one.attempt) for one in outcomes]
    _INSERT_ATTEMPT.execute(connection, rows)
    for one in outcomes:
        if one.attempt.number > MAX_ATTEMPTS:
            of_delivery = delivery_attempts.c.delivery_id == one.delivery.delivery_id
            old = delivery_attempts.c.number <= one.attempt.number - MAX_ATTEMPTS
            connection.execute(delete(delivery_attempts).where(of_delivery, old))


def _store_receivers(connection: Connection, changed: Sequence[Receiver]) -> None:
    if not changed:
        return
    rows = [
        {"receiver": one.name, "failing_since": one.failing_since, "paused_at": one.paused_at}
        for one in sorted(changed, key=lambda one: one.name)  # in order, so that there is no deadlock
    ]
    connection.execute(dialect.insert_or_replace(connection, receivers), rows)


def _add_notices(connection: Connection, notices: Sequence[Delivery]) -> None:
    """Insert each notice once, because several concurrent attempts may pause the same receiver."""
    if not notices:
        return
    by_id = {notice.event.event_id: notice for notice in notices}
    query = select(events.c.event_id).where(events.c.event_id.in_(list(by_id)))
    stored = set(connection.execute(query).scalars())
    insert_deliveries(connection, [notice for event_id, notice in by_id.items() if event_id not in stored])


def redeliver(connection: Connection, filter_: DeliveryFilter, now: float) -> int:
    """Make deliveries pending and due now, and resume their receivers; return how many deliveries."""
    unowned = (*_conditions(filter_), deliveries.c.owner.is_(None))
    named = select(deliveries.c.receiver).join(events).where(*unowned, deliveries.c.receiver.is_not(None))
    paused = receivers.c.paused_at.is_not(None)
    connection.execute(delete(receivers).where(paused, receivers.c.receiver.in_(named)))
    wanted = select(deliveries.c.delivery_id).join(events).where(*unowned)
    again = {
        "state": DeliveryState.PENDING.value,
        "earlier_attempts": deliveries.c.attempts,
        "due_at": now,
        "delivered_at": None,
    }
    changed = connection.execute(update(deliveries).where(deliveries.c.delivery_id.in_(wanted)).values(again))
    return changed.rowcount


def _conditions(filter_: DeliveryFilter) -> list[ColumnElement[bool]]:
    matches: list[tuple[Any, Callable[[Any], ColumnElement[bool]]]] = [
        (filter_.delivery_id, deliveries.c.delivery_id.__eq__),
        (filter_.state, deliveries.c.state.__eq__),
        (filter_.crew, deliveries.c.crew.__eq__),
        (filter_.crews, deliveries.c.crew.in_),
        (filter_.run_id, events.c.run_id.__eq__),
        (filter_.since, events.c.created_at.__ge__),
        (filter_.until, events.c.created_at.__lt__),
        (filter_.before, deliveries.c.delivery_id.__lt__),
    ]
    return [matching(value) for value, matching in matches if value is not None]
