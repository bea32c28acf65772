"""Ownership: who works on which rows.

A process owns rows, not moments: it claims them and owns them while its heartbeat lives. Freeing a row raises its
version, so that a process that was only asleep finds out and drops its answer. Who frees rows locks the process's own
row, and who claims holds on to it, so that nothing is claimed in the name of a process that was given up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Select, delete, func, literal, select, text, tuple_, update

from bridge.adapters.store import budgets, dialect
from bridge.adapters.store.rows import delivery_of, run_of, whole_deliveries
from bridge.adapters.store.tables import OPEN, WAITING, deliveries, processes, runs
from bridge.core.budget import UNLIMITED, Budgets
from bridge.core.model import Channel, Delivery, DeliveryState, Run, State
from bridge.core.receivers import Shares

_UNDER_WAY = (State.STARTING.value, State.RUNNING.value, State.WAITING_FOR_HUMAN.value)
_EMPTY = {name: literal(b"{}").label(name) for name in ("inputs", "meta")}
_TO_FOLLOW = [_EMPTY.get(column.name, column) for column in runs.c]
"""What it takes to follow a run; its inputs may be large, and many runs are taken up at once."""


@dataclass(frozen=True, slots=True)
class OfCrew:
    """Due accepted runs of one crew, no more than keep it within `max_running` and what is left of the budgets."""

    process: str
    crew: str
    room: int
    max_running: int
    now: float
    budgets: Budgets = UNLIMITED
    attempted: list[Run] = field(default_factory=list)
    """What the last transaction took; whether it was committed is another question."""


@dataclass(frozen=True, slots=True)
class InStates:
    """Runs in some states that nobody owns: those due by `now`, or if that is None, those never due."""

    process: str
    states: frozenset[State]
    room: int
    now: float | None
    attempted: list[Run] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DueDeliveries:
    """Due deliveries of some channels."""

    process: str
    channels: tuple[Channel, ...]
    room: int
    now: float
    attempted: list[Delivery] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DueCallbacks:
    """Due deliveries to callback URLs, within the shares of their receivers."""

    process: str
    room: int
    shares: Shares
    now: float
    attempted: list[Delivery] = field(default_factory=list)


def claim_runs(connection: Connection, wishes: Sequence[OfCrew | InStates]) -> list[list[Run]]:
    """Take the rows that each wish asks for; none for a process that was given up."""
    if not lives(connection, wishes[0].process):
        return [[] for _ in wishes]
    return [_claim_runs(connection, wish) for wish in wishes]


def claim_deliveries(connection: Connection, wishes: Sequence[DueDeliveries]) -> list[list[Delivery]]:
    """Take the deliveries that each wish asks for; none for a process that was given up."""
    if not lives(connection, wishes[0].process):
        return [[] for _ in wishes]
    return [_claim_deliveries(connection, wish) for wish in wishes]


def give_back(connection: Connection, wishes: Sequence[OfCrew | InStates | DueDeliveries | DueCallbacks]) -> list[None]:
    """Free what claims took whose commit was not confirmed: if it happened, nobody here knows of these rows."""
    for wish in wishes:
        taken = {item.run_id: item.version for item in wish.attempted if isinstance(item, Run)}
        release_runs(connection, wish.process, taken)
        ids = [item.delivery_id for item in wish.attempted if isinstance(item, Delivery)]
        mine = deliveries.c.delivery_id.in_(ids) & (deliveries.c.owner == wish.process)
        connection.execute(update(deliveries).where(mine).values(owner=None))
    return [None] * len(wishes)


def release_runs(connection: Connection, process: str, taken: Mapping[str, int]) -> int:
    """Free runs, given with the version at which this process took them; how many were still as they were then."""
    as_taken = tuple_(runs.c.run_id, runs.c.version).in_(list(taken.items()))
    freed = update(runs).where(as_taken, runs.c.owner == process).values(owner=None, version=runs.c.version + 1)
    return connection.execute(freed).rowcount if taken else 0


def bury(connection: Connection, now: float, silent_for: float) -> int:
    """Release everything that belongs to processes without a sign of life for so long, and forget them."""
    silent = select(processes.c.name).where(processes.c.beat_at < dialect.clock(connection, now) - silent_for)
    names = connection.execute(silent.with_for_update(skip_locked=True)).scalars().all()
    if names:
        release(connection, names)
    return len(names)


def release(connection: Connection, names: Sequence[str]) -> None:
    """Give back every row of these processes and forget them."""
    mine = runs.c.owner.in_(names)
    connection.execute(update(runs).where(mine).values(owner=None, version=runs.c.version + 1))
    connection.execute(update(deliveries).where(deliveries.c.owner.in_(names)).values(owner=None))
    connection.execute(delete(processes).where(processes.c.name.in_(names)))


def lives(connection: Connection, process: str) -> bool:
    """Whether this process has not been given up; it cannot be until the transaction ends."""
    me = select(processes.c.name).where(processes.c.name == process)
    return connection.execute(me.with_for_update(read=True, key_share=True)).first() is not None


def _claim_runs(connection: Connection, wish: OfCrew | InStates) -> list[Run]:
    wish.attempted.clear()
    ids = _waiting(connection, wish) if isinstance(wish, OfCrew) else _in_states(connection, wish)
    if not ids:
        return []
    taken = update(runs).where(runs.c.run_id.in_(ids)).values(owner=wish.process, version=runs.c.version + 1)
    columns = _TO_FOLLOW if isinstance(wish, InStates) and wish.now is None else runs.c
    rows = {row.run_id: row for row in connection.execute(taken.returning(*columns))}
    wish.attempted.extend(run_of(rows[run_id]) for run_id in ids)
    return list(wish.attempted)


def _in_states(connection: Connection, wish: InStates) -> Sequence[str]:
    query = select(runs.c.run_id).where(runs.c.state.in_(sorted(wish.states)), runs.c.owner.is_(None))
    if wish.now is None:  # in no order: after a restart all that were under way are among them
        some = query.where(runs.c.due_at.is_(None)).limit(wish.room)
    else:
        some = query.where(runs.c.due_at <= wish.now).order_by(runs.c.due_at, runs.c.run_id).limit(wish.room)
    return connection.execute(some.with_for_update(skip_locked=True)).scalars().all()


def _waiting(connection: Connection, wish: OfCrew) -> Sequence[str]:
    """The runs to start next, by priority and age, as far as there are places and budgets left."""
    dialect.serialize(connection, "places", wish.crew)  # counting and taking are one act among all processes
    places = wish.max_running - connection.execute(_places_held(wish)).scalar_one()
    free = min(wish.room, places, budgets.left_of_crew(connection, wish.crew, wish.budgets.crew, wish.now))
    if free <= 0:
        return []
    left = budgets.left_of_senders(connection, wish.budgets.senders, wish.now)
    spent = [sender for sender, count in left.items() if count <= 0]
    query = select(runs.c.run_id, runs.c.source).where(text(WAITING), runs.c.crew == wish.crew)
    due = query.where(runs.c.due_at <= wish.now, *([runs.c.source.not_in(spent)] if spent else []))
    some = due.order_by(runs.c.priority.desc(), runs.c.run_id).limit(int(free))
    found = connection.execute(some.with_for_update(skip_locked=True)).all()
    return budgets.within(found, left)


def _places_held(wish: OfCrew) -> Select[int]:
    """Runs that are under way, or claimed to be; a run in doubt holds its place until its evidence is overdue.

    Counted apart, so that each is a range of the index: runs that only wait, however many, are not read.
    """
    of_crew = select(func.count()).where(text(OPEN), runs.c.crew == wish.crew)
    under_way = of_crew.where(runs.c.state.in_(_UNDER_WAY))
    claimed = of_crew.where(runs.c.state == State.ACCEPTED.value, runs.c.owner.is_not(None))
    doubted = of_crew.where(runs.c.state == State.IN_DOUBT.value, runs.c.due_at > wish.now)
    return select(under_way.scalar_subquery() + claimed.scalar_subquery() + doubted.scalar_subquery())


def _claim_deliveries(connection: Connection, wish: DueDeliveries) -> list[Delivery]:
    wish.attempted.clear()
    due = (
        select(deliveries.c.delivery_id)
        .where(
            deliveries.c.state == DeliveryState.PENDING.value,
            deliveries.c.channel.in_([channel.value for channel in wish.channels]),
            deliveries.c.owner.is_(None),
            deliveries.c.due_at <= wish.now,
        )
        .order_by(deliveries.c.due_at)
        .limit(wish.room)
    )
    ids = connection.execute(due.with_for_update(skip_locked=True)).scalars().all()
    if not ids:
        return []
    wish.attempted.extend(take_deliveries(connection, ids, wish.process))
    return list(wish.attempted)


def take_deliveries(connection: Connection, ids: Sequence[str], process: str) -> list[Delivery]:
    """Own these deliveries; gives them back, the longest due first."""
    connection.execute(update(deliveries).where(deliveries.c.delivery_id.in_(ids)).values(owner=process))
    whole = whole_deliveries().where(deliveries.c.delivery_id.in_(ids)).order_by(deliveries.c.due_at)
    return [delivery_of(row) for row in connection.execute(whole)]
