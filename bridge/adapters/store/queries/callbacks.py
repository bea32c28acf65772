"""Claims callbacks so that no receiver delays the others.

Receivers at their concurrency limit and paused ones are skipped. New and failing receivers together get half of the
slots, so that a slot is always available for a working receiver.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, bindparam, exists, func, select

from bridge.adapters.store import dialect
from bridge.adapters.store.queries.claims import ClaimCallbacks, Claimed, is_alive, own_deliveries
from bridge.adapters.store.schema import deliveries, receivers
from bridge.core.delivery.model import Channel, Delivery, DeliveryState
from bridge.core.delivery.receivers import ConcurrencyLimits

_PAGE = 500  # due deliveries that are read before those of receivers at their limit are excluded

_KNOWN = exists().where(receivers.c.receiver == deliveries.c.receiver)
_PROVEN = _KNOWN.where(receivers.c.failing_since.is_(None))
_PAUSED = _KNOWN.where(receivers.c.paused_at.is_not(None))
_DUE = (
    deliveries.c.state == DeliveryState.PENDING.value,
    deliveries.c.channel == Channel.CALLBACK.value,
    deliveries.c.owner.is_(None),
    deliveries.c.due_at <= bindparam("now"),
)
_FIRST_DUE = select(deliveries.c.due_at).where(*_DUE).order_by(deliveries.c.due_at).limit(1)


def claim_callbacks(connection: Connection, requests: Sequence[ClaimCallbacks]) -> list[Claimed[Delivery]]:
    """Claim the deliveries of each request; none for an expired process."""
    any_claim = _any_due(connection, requests[-1].now) and is_alive(connection, requests[0].process)
    return [_claim(connection, request) if any_claim else Claimed() for request in requests]


def _any_due(connection: Connection, now: float) -> bool:
    """Return whether any callback is due; usually none is, because the end of every run triggers this claim."""
    return connection.execute(_FIRST_DUE, {"now": now}).first() is not None


@dataclass(slots=True)
class _CallsInProgress:
    """Counts of calls in progress by receiver, including those being claimed."""

    limits: ConcurrencyLimits
    calls: Counter[str]
    proven: dict[str, bool]

    def at_limit(self) -> list[str]:
        """Return the receivers at their concurrency limit."""
        return [receiver for receiver, calls in self.calls.items() if calls >= self._limit(receiver)]

    def proven_only(self) -> bool:
        """Return whether new and failing receivers together are at their limit."""
        unproven = sum(calls for receiver, calls in self.calls.items() if not self.proven[receiver])
        return unproven >= self.limits.unproven_total

    def take(self, receiver: str, *, proven: bool) -> bool:
        """Count one more call of a receiver if the limits permit it; return whether they do."""
        self.proven[receiver] = proven
        if self.calls[receiver] >= self._limit(receiver) or (not proven and self.proven_only()):
            return False
        self.calls[receiver] += 1
        return True

    def _limit(self, receiver: str) -> int:
        return self.limits.per_receiver(proven=self.proven[receiver])


def _claim(connection: Connection, request: ClaimCallbacks) -> Claimed[Delivery]:
    dialect.serialize(connection, "callbacks")  # counting and claiming must be atomic across processes
    in_progress, found = _count_in_progress(connection, request.limits), list[str]()
    while len(found) < request.limit:
        head = _head(connection, request.now, in_progress, found)
        for row in head:
            if len(found) < request.limit and in_progress.take(row.receiver, proven=row.proven):
                found.append(row.delivery_id)
        if len(head) < _PAGE:
            break
    return own_deliveries(connection, found, request.process)


def _count_in_progress(connection: Connection, limits: ConcurrencyLimits) -> _CallsInProgress:
    query = select(deliveries.c.receiver, _PROVEN.label("proven"), func.count().label("calls"))
    owned = query.where(deliveries.c.owner.is_not(None), deliveries.c.receiver.is_not(None))
    rows = connection.execute(owned.group_by(deliveries.c.receiver)).all()
    calls = Counter({row.receiver: row.calls for row in rows})
    return _CallsInProgress(limits, calls, {row.receiver: row.proven for row in rows})


def _head(
    connection: Connection, now: float, in_progress: _CallsInProgress, found: Sequence[str]
) -> Sequence[Row[tuple[str, str, bool]]]:
    """Return the first due deliveries of receivers below their limit, without those already found."""
    due = (
        select(deliveries.c.delivery_id, deliveries.c.receiver, _PROVEN.label("proven"))
        .where(
            *_DUE,
            deliveries.c.receiver.not_in(in_progress.at_limit()),
            deliveries.c.delivery_id.not_in(found),
            _PROVEN if in_progress.proven_only() else ~_PAUSED,
        )
        .order_by(deliveries.c.due_at)
        .limit(_PAGE)
    )
    return connection.execute(due.with_for_update(skip_locked=True), {"now": now}).all()
