"""Claims: ownership of rows.

A process claims rows, and owns them while its heartbeat is current. Releasing a row increments its version, so that a
process that was merely suspended discards its result. Expiring a process locks its row in `processes`, and claiming
locks it as well, so that no row is claimed in the name of an expired process.

Frequent statements are built once, because building one costs several times as much as executing it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, select, text, tuple_, update

from bridge.adapters.store import dialect
from bridge.adapters.store.connections import Work
from bridge.adapters.store.decoding import UndecodableRow, decode_rows, mark_dead, postpone
from bridge.adapters.store.queries.run_lists import ids_within
from bridge.adapters.store.rows import delivery_from_row, run_columns, run_from_row, select_deliveries
from bridge.adapters.store.schema import (
    OPEN,
    deliveries,
    events,
    processes,
    runs,
    served_crews,
    webhook_inbox,
)
from bridge.core.delivery.model import Channel, Delivery, DeliveryState
from bridge.core.delivery.receivers import ConcurrencyLimits
from bridge.core.runs.model import FINAL_STATES, Run, State

_OPEN_STATES = frozenset(State) - FINAL_STATES
T = TypeVar("T")

_THIS_PROCESS = select(processes.c.name).where(processes.c.name == bindparam("process"))
_LOCK_PROCESS = _THIS_PROCESS.with_for_update(read=True, key_share=True)


WITH_WEBHOOKS = select(webhook_inbox.c.run_id).where(
    webhook_inbox.c.run_id.is_not(None), webhook_inbox.c.owner.is_(None)
)
"""Runs whose webhooks have not been handled: one may name an execution, so no POST may be repeated before."""
_DELETE_RETAINED = delete(webhook_inbox).where(
    webhook_inbox.c.run_id.in_(bindparam("run_ids", expanding=True)), webhook_inbox.c.owner.is_not(None)
)

_OWN_RUNS = (
    update(runs)
    .where(runs.c.run_id.in_(bindparam("ids", expanding=True)))
    .values(owner=bindparam("process"), version=runs.c.version + 1)
)
_OWN_COMPLETE, _OWN_FOR_TRACKING = _OWN_RUNS.returning(*runs.c), _OWN_RUNS.returning(*run_columns("inputs", "meta"))

_DUE = (
    select(deliveries.c.delivery_id)
    .where(
        deliveries.c.state == DeliveryState.PENDING.value,
        deliveries.c.channel.in_(bindparam("channels", expanding=True)),
        deliveries.c.owner.is_(None),
        deliveries.c.due_at <= bindparam("now"),
    )
    .order_by(deliveries.c.due_at)
    .limit(bindparam("limit"))
    .with_for_update(skip_locked=True)
)
CLAIM_BYTES = 16 * 1024 * 1024  # of events in one claim; at least one delivery is claimed
_OF_THESE = deliveries.c.delivery_id.in_(bindparam("ids", expanding=True))
_OWN_DELIVERIES = update(deliveries).where(_OF_THESE).values(owner=bindparam("process"))
_SIZES = (
    select(deliveries.c.delivery_id, func.length(events.c.body))
    .join(events, events.c.event_id == deliveries.c.event_id)
    .where(_OF_THESE)
    .order_by(deliveries.c.due_at)
)
_OWNED_DELIVERIES = select_deliveries().where(_OF_THESE).order_by(deliveries.c.due_at)


@dataclass(frozen=True, slots=True)
class ClaimInStates:
    """Claim unowned runs in some states: those due by `now`, or if that is None, those with no due time."""

    process: str
    states: frozenset[State]
    crews: Collection[str]
    limit: int
    now: float | None


@dataclass(frozen=True, slots=True)
class ClaimDeliveries:
    """Claim due deliveries of some channels."""

    process: str
    channels: tuple[Channel, ...]
    limit: int
    now: float


@dataclass(frozen=True, slots=True)
class ClaimCallbacks:
    """Claim due callbacks, within the concurrency limits of their receivers."""

    process: str
    limit: int
    limits: ConcurrencyLimits
    now: float


@dataclass(frozen=True, slots=True)
class Claimed(Generic[T]):
    """The result of a claim. `undecodable`: rows that it cannot decode, and has postponed or marked as dead."""

    rows: Sequence[T] = ()
    undecodable: Sequence[UndecodableRow] = ()
    release: Work[None] = lambda _: None
    """Releases the rows as if they had not been claimed."""


def claim_runs(connection: Connection, requests: Sequence[ClaimInStates]) -> list[Claimed[Run]]:
    """Claim the runs of each request; none for an expired process."""
    alive = is_alive(connection, requests[0].process)
    return [_claim_runs(connection, request) if alive else Claimed() for request in requests]


def claim_deliveries(connection: Connection, requests: Sequence[ClaimDeliveries]) -> list[Claimed[Delivery]]:
    """Claim the deliveries of each request; none for an expired process."""
    alive = is_alive(connection, requests[0].process)
    return [_claim_deliveries(connection, request) if alive else Claimed() for request in requests]


def release_deliveries(connection: Connection, owned: Sequence[Delivery], process: str) -> None:
    """Release deliveries that the process still owns."""
    own_rows = deliveries.c.delivery_id.in_([delivery.delivery_id for delivery in owned])
    connection.execute(update(deliveries).where(own_rows, deliveries.c.owner == process).values(owner=None))


def join(connection: Connection, process: str, crews: Collection[str], now: float) -> None:
    """Register a process that may own rows, and the crews that it serves."""
    connection.execute(processes.insert().values(name=process, heartbeat_at=dialect.clock(connection, now)))
    serve(connection, process, crews)


def serve(connection: Connection, process: str, crews: Collection[str]) -> None:
    """Replace the crews that a process serves."""
    connection.execute(delete(served_crews).where(served_crews.c.process == process))
    if crews:
        connection.execute(served_crews.insert(), [{"crew": crew, "process": process} for crew in sorted(crews)])


def release_crews(connection: Connection, process: str, crews: Collection[str]) -> None:
    """Release the runs of some crews that a process owns."""
    _release_owned(connection, (runs.c.owner == process) & runs.c.crew.in_(crews))


def heartbeat(connection: Connection, process: str, now: float) -> bool:
    """Record a heartbeat; return whether the process is still registered."""
    alive = update(processes).where(processes.c.name == process).values(heartbeat_at=dialect.clock(connection, now))
    return connection.execute(alive).rowcount > 0


def expire_processes(connection: Connection, now: float, silent_for: float) -> int:
    """Expire processes without a heartbeat for so long and release everything they own."""
    silent = select(processes.c.name).where(processes.c.heartbeat_at < dialect.clock(connection, now) - silent_for)
    names = connection.execute(silent.with_for_update(skip_locked=True)).scalars().all()
    if names:
        release(connection, names)
    return len(names)


def release(connection: Connection, names: Sequence[str]) -> None:
    """Release every row of these processes and remove them."""
    _release_owned(connection, runs.c.owner.in_(names))
    connection.execute(update(deliveries).where(deliveries.c.owner.in_(names)).values(owner=None))
    connection.execute(delete(processes).where(processes.c.name.in_(names)))


def _release_owned(connection: Connection, owned: ColumnElement[bool]) -> None:
    own_rows = runs.c.state.in_(list(State)) & owned  # the index of owners begins with the state
    connection.execute(update(runs).where(own_rows).values(owner=None, version=runs.c.version + 1))


def delete_retained(connection: Connection, run_ids: Sequence[str]) -> None:
    """Delete the retained webhooks of runs that have ended, or for which another one is to be retained."""
    if run_ids:
        connection.execute(_DELETE_RETAINED, {"run_ids": run_ids})


def is_alive(connection: Connection, process: str) -> bool:
    """Return whether a process is registered; if so, it cannot expire before the transaction ends."""
    return connection.execute(_LOCK_PROCESS, {"process": process}).first() is not None


def _claim_runs(connection: Connection, request: ClaimInStates) -> Claimed[Run]:
    ids = _in_states(connection, request)
    if not ids:
        return Claimed()
    take = _OWN_FOR_TRACKING if request.now is None else _OWN_COMPLETE
    rows = {row.run_id: row for row in connection.execute(take, {"ids": ids, "process": request.process})}
    found, undecodable = decode_rows((rows[run_id] for run_id in ids), run_from_row, "run_id")
    if undecodable and request.now is not None:  # others stay owned, so that they are not claimed again
        postpone(connection, undecodable, request.now)
    return Claimed(found, undecodable, partial(_release_runs, process=request.process, claimed=found))


def still_claimed(process: str, claimed: Sequence[Run]) -> ColumnElement[bool]:
    """Match the runs that a process has claimed and that have not been written since.

    The version alone does not show it: if the claim was rolled back, a claim of another process has given the run the
    same version.
    """
    unchanged = tuple_(runs.c.run_id, runs.c.version).in_([(run.run_id, run.version) for run in claimed])
    return unchanged & (runs.c.owner == process)


def _release_runs(connection: Connection, process: str, claimed: Sequence[Run]) -> None:
    values = {"owner": None, "version": runs.c.version + 1}
    connection.execute(update(runs).where(still_claimed(process, claimed)).values(values))


def _in_states(connection: Connection, request: ClaimInStates) -> Sequence[str]:
    query = select(runs.c.run_id).where(runs.c.state.in_(sorted(request.states)), runs.c.owner.is_(None))
    if State.IN_DOUBT in request.states:
        query = query.where(runs.c.run_id.not_in(WITH_WEBHOOKS))
    if request.states <= _OPEN_STATES:
        # By the index that begins with the crew, so that runs of crews that no process serves are not read.
        query = query.where(text(OPEN), runs.c.crew.in_(sorted(request.crews)))
    else:
        # As an expression; otherwise SQLite uses an index that begins with the crew, and reads all runs of the crew.
        query = query.where(runs.c.crew.concat("").in_(sorted(request.crews)))
    if request.now is None:  # unordered, because after a restart these are all runs in progress
        matching = query.where(runs.c.due_at.is_(None)).limit(request.limit)
    else:
        matching = query.where(runs.c.due_at <= request.now).order_by(runs.c.due_at, runs.c.run_id).limit(request.limit)
    return connection.execute(matching.with_for_update(skip_locked=True)).scalars().all()


def _claim_deliveries(connection: Connection, request: ClaimDeliveries) -> Claimed[Delivery]:
    channels = [channel.value for channel in request.channels]
    due = connection.execute(_DUE, {"channels": channels, "now": request.now, "limit": request.limit})
    return own_deliveries(connection, due.scalars().all(), request.process)


def own_deliveries(connection: Connection, ids: Sequence[str], process: str) -> Claimed[Delivery]:
    """Own the longest due of these deliveries, up to `CLAIM_BYTES`, and return them in this order."""
    if not ids:
        return Claimed()
    sizes = connection.execute(_SIZES, {"ids": ids}).all()
    taken = list(ids_within([(delivery_id, size) for delivery_id, size in sizes], CLAIM_BYTES))
    connection.execute(_OWN_DELIVERIES, {"ids": taken, "process": process})
    rows = connection.execute(_OWNED_DELIVERIES, {"ids": taken})
    found, undecodable = decode_rows(rows, delivery_from_row, "delivery_id")
    if undecodable:
        mark_dead(connection, undecodable)
    return Claimed(found, undecodable, partial(release_deliveries, owned=found, process=process))
