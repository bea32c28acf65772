"""Claims deliveries, writes the outcomes of their attempts, and redelivers."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, exists, func, select, update

from bridge.adapters.store import dialect
from bridge.adapters.store.bulk_statement import BulkStatement
from bridge.adapters.store.group_commit import Batches, until_available
from bridge.adapters.store.ownership import Ownership
from bridge.adapters.store.queries import callbacks, claims
from bridge.adapters.store.queries.accept import add_deliveries, insert_deliveries
from bridge.adapters.store.rows import Values, new_attempt
from bridge.adapters.store.schema import deliveries, delivery_attempts, events, receivers
from bridge.core.delivery.model import Channel, Delivery, DeliveryState, Receiver
from bridge.core.delivery.outcome import DeliveryOutcome
from bridge.core.delivery.receivers import ConcurrencyLimits
from bridge.core.errors import StoreUnavailable
from bridge.ports.queries import DeliveryFilter

MAX_RECEIVERS = 1000  # of a list
MAX_ATTEMPTS = 50  # kept per delivery, because some deliveries are retried without limit


class SqlDeliveries:
    """`ports.DeliveryStore`."""

    def __init__(self, batches: Batches, ownership: Ownership) -> None:
        self._batches = batches
        self._ownership = ownership

    async def add(self, new: Sequence[Delivery]) -> None:
        await self._batches.write(add_deliveries, new)

    async def claim(self, channels: Sequence[Channel], limit: int, now: float) -> list[Delivery]:
        """Claim due deliveries of these channels: those handed off, then the longest due in the store."""
        handoff = self._ownership.handoff
        for_store = handoff.slots_for_store(limit, now)
        own = handoff.take(channels, limit - for_store, now)
        if own and not for_store:
            return own
        request = claims.ClaimDeliveries(self._ownership.process, tuple(channels), limit - len(own), now)
        try:
            claimed = await self._ownership.claim(claims.claim_deliveries, request)
        except StoreUnavailable:
            if own:
                return own  # no other process would send them
            raise
        handoff.claimed_from_store(len(claimed), request.limit, now)
        return own + claimed + handoff.take(channels, request.limit - len(claimed), now)

    async def claim_callbacks(self, limit: int, limits: ConcurrencyLimits, now: float) -> list[Delivery]:
        request = claims.ClaimCallbacks(self._ownership.process, limit, limits, now)
        return await self._ownership.claim(callbacks.claim_callbacks, request)

    async def record_outcome(self, outcome: DeliveryOutcome) -> None:
        owned = _OwnedOutcome(self._ownership.process, outcome)
        await until_available(partial(self._batches.write, _write_outcomes, owned))

    async def store_receiver(self, receiver: Receiver) -> None:
        """Replace what is known about a receiver, as the bridge of a test does to begin with a failing one."""
        await self._batches.write_one(partial(_store_receivers, changed=[receiver]))


@dataclass(frozen=True, slots=True)
class _OwnedOutcome:
    """The outcome of an attempt, and the process that owns the delivery."""

    process: str
    outcome: DeliveryOutcome


def _write_outcomes(connection: Connection, written: Sequence[_OwnedOutcome]) -> list[None]:
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
        .values(owner=None)
    )
)


_INSERT_ATTEMPT = BulkStatement(lambda connection: dialect.insert_or_ignore(connection, delivery_attempts))


def _delivery_values(written: _OwnedOutcome) -> Values:
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
    wanted = _redeliverable(filter_, deliveries.c.delivery_id)
    named = _redeliverable(filter_, deliveries.c.receiver).where(deliveries.c.receiver.is_not(None))
    paused = receivers.c.paused_at.is_not(None)
    connection.execute(delete(receivers).where(paused, receivers.c.receiver.in_(named)))
    again = {
        "state": DeliveryState.PENDING.value,
        "earlier_attempts": deliveries.c.attempts,
        "due_at": now,
        "delivered_at": None,
    }
    changed = connection.execute(update(deliveries).where(deliveries.c.delivery_id.in_(wanted)).values(again))
    return changed.rowcount


def count_redeliverable(connection: Connection, filter_: DeliveryFilter) -> int:
    """Return how many deliveries `redeliver` would change."""
    count: int = connection.execute(_redeliverable(filter_, func.count())).scalar_one()
    return count


def _redeliverable(filter_: DeliveryFilter, column: ColumnElement[Any]) -> Select[Any]:
    unowned = deliveries.c.owner.is_(None)
    return select(column).select_from(deliveries).join(events).where(*_conditions(filter_), unowned)


def discard(connection: Connection, delivery_id: str, by: str) -> None:
    """Make a delivery dead if it is pending and unowned."""
    pending = (deliveries.c.state == DeliveryState.PENDING.value) & deliveries.c.owner.is_(None)
    dead = {"state": DeliveryState.DEAD.value, "last_error": f"discarded by {by}"}
    connection.execute(update(deliveries).where(deliveries.c.delivery_id == delivery_id, pending).values(dead))


def failing_receivers(connection: Connection, crews: Collection[str] | None) -> list[Receiver]:
    """Return failing and paused receivers, by name."""
    failing = select(receivers).where(receivers.c.failing_since.is_not(None), *_receives_from(crews))
    rows = connection.execute(failing.order_by(receivers.c.receiver).limit(MAX_RECEIVERS))
    return [Receiver(row.receiver, row.failing_since, row.paused_at) for row in rows]


def resume_receivers(connection: Connection, name: str | None, crews: Collection[str] | None) -> int:
    """Delete paused receivers, so that they count as new; return how many."""
    named = [] if name is None else [receivers.c.receiver == name]
    paused = delete(receivers).where(receivers.c.paused_at.is_not(None), *named, *_receives_from(crews))
    return connection.execute(paused).rowcount


def _receives_from(crews: Collection[str] | None) -> list[ColumnElement[bool]]:
    if crews is None:
        return []
    return [exists().where(deliveries.c.receiver == receivers.c.receiver, deliveries.c.crew.in_(crews))]


def _conditions(filter_: DeliveryFilter) -> list[ColumnElement[bool]]:
    matches: list[tuple[Any, Callable[[Any], ColumnElement[bool]]]] = [
        (filter_.delivery_id, deliveries.c.delivery_id.__eq__),
        (filter_.state, deliveries.c.state.__eq__),
        (filter_.crew, deliveries.c.crew.__eq__),
        (filter_.crews, deliveries.c.crew.in_),
        (filter_.run_id, events.c.run_id.__eq__),
        (filter_.receiver, deliveries.c.receiver.__eq__),
        (filter_.since, events.c.created_at.__ge__),
        (filter_.until, events.c.created_at.__lt__),
        (filter_.before, deliveries.c.delivery_id.__lt__),
    ]
    return [matching(value) for value, matching in matches if value is not None]
