"""Ownership: who works on which rows.

A process owns rows, not moments: it claims them and owns them while its heartbeat lives. Freeing a row raises its
version, so that a process that was only asleep finds out and drops its answer. Who frees rows locks the process's own
row, and who claims holds on to it, so that nothing is claimed in the name of a process that was given up.

Statements that are needed all the time are built once: building one costs several times what the database does with it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Select, bindparam, delete, func, literal, select, text, tuple_, update

from bridge.adapters.store import dialect
from bridge.adapters.store.decoding import Unreadable, decoded, mark_dead, postpone
from bridge.adapters.store.free_slots import FreeSlots
from bridge.adapters.store.queries import budgets
from bridge.adapters.store.queries.run_lists import within
from bridge.adapters.store.rows import delivery_from_row, run_from_row, whole_deliveries
from bridge.adapters.store.schema import (
    OPEN,
    WAITING,
    deliveries,
    events,
    pending_commands,
    processes,
    runs,
    served_crews,
)
from bridge.core.delivery.model import Channel, Delivery, DeliveryState
from bridge.core.delivery.receivers import ConcurrencyLimits
from bridge.core.runs.budget import UNLIMITED, Budgets
from bridge.core.runs.model import FINAL_STATES, Run, State

_UNDER_WAY = (State.STARTING.value, State.RUNNING.value, State.WAITING_FOR_HUMAN.value)
_OPEN_STATES = frozenset(State) - FINAL_STATES
_EMPTY = {name: literal(b"{}").label(name) for name in ("inputs", "meta")}
_TRACKING_COLUMNS = [_EMPTY.get(column.name, column) for column in runs.c]
"""What it takes to follow a run; its inputs may be large, and many runs are taken up at once."""

_ME = select(processes.c.name).where(processes.c.name == bindparam("process"))
_HOLD_ME = _ME.with_for_update(read=True, key_share=True)


def _slots_held() -> Select[int]:
    """Runs that are under way, or claimed to be; a run in doubt holds its place until that is told.

    Not only until its evidence is overdue: some may come before anybody has told so, and then the run is under way.
    Counted apart, so that each is a range of the index: runs that only wait, however many, are not read.
    """
    of_crew = select(func.count()).where(text(OPEN), runs.c.crew == bindparam("crew"))
    in_progress = of_crew.where(runs.c.state.in_(_UNDER_WAY))
    claimed = of_crew.where(runs.c.state == State.ACCEPTED.value, runs.c.owner.is_not(None))
    doubted = of_crew.where(runs.c.state == State.IN_DOUBT.value, runs.c.due_at.is_not(None))
    return select(in_progress.scalar_subquery() + claimed.scalar_subquery() + doubted.scalar_subquery())


_SLOTS_HELD = _slots_held()
_WAITING = (
    select(runs.c.run_id, runs.c.source)
    .where(
        text(WAITING),
        runs.c.crew == bindparam("crew"),
        runs.c.due_at <= bindparam("now"),
        runs.c.source.not_in(bindparam("spent", expanding=True)),
        runs.c.run_id.not_in(bindparam("taken", expanding=True)),
        runs.c.run_id.not_in(select(pending_commands.c.run_id)),  # to be cancelled: must not be started once more
    )
    .order_by(runs.c.priority.desc(), runs.c.run_id)
    .limit(bindparam("room"))
    .with_for_update(skip_locked=True)
)
_TAKE_RUNS = (
    update(runs)
    .where(runs.c.run_id.in_(bindparam("ids", expanding=True)))
    .values(owner=bindparam("process"), version=runs.c.version + 1)
)
_TAKE_WHOLE, _CLAIM_FOR_TRACKING = _TAKE_RUNS.returning(*runs.c), _TAKE_RUNS.returning(*_TRACKING_COLUMNS)

_DUE = (
    select(deliveries.c.delivery_id)
    .where(
        deliveries.c.state == DeliveryState.PENDING.value,
        deliveries.c.channel.in_(bindparam("channels", expanding=True)),
        deliveries.c.owner.is_(None),
        deliveries.c.due_at <= bindparam("now"),
    )
    .order_by(deliveries.c.due_at)
    .limit(bindparam("room"))
    .with_for_update(skip_locked=True)
)
CLAIM_BYTES = 16 * 1024 * 1024  # of events in one claim, which holds one delivery at least
_OF_THESE = deliveries.c.delivery_id.in_(bindparam("ids", expanding=True))
_TAKE_DELIVERIES = update(deliveries).where(_OF_THESE).values(owner=bindparam("process"))
_SIZES = (
    select(deliveries.c.delivery_id, func.length(events.c.body))
    .join(events, events.c.event_id == deliveries.c.event_id)
    .where(_OF_THESE)
    .order_by(deliveries.c.due_at)
)
_TAKEN_DELIVERIES = whole_deliveries().where(_OF_THESE).order_by(deliveries.c.due_at)


@dataclass(frozen=True, slots=True)
class OfCrew:
    """Due accepted runs of one crew, no more than keep it within `max_running` and what is left of the budgets."""

    process: str
    crew: str
    room: int
    max_running: int
    now: float
    budgets: Budgets = UNLIMITED
    sure: FreeSlots | None = None
    """None: others claim from the same store, too."""
    attempted: list[Run] = field(default_factory=list)
    """What the last transaction took; whether it was committed is another question."""
    unreadable: list[Unreadable] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class InStates:
    """Runs in some states that nobody owns: those due by `now`, or if that is None, those never due."""

    process: str
    states: frozenset[State]
    room: int
    now: float | None
    crews: Collection[str] | None = None
    """None: of all crews."""
    attempted: list[Run] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DueDeliveries:
    """Due deliveries of some channels."""

    process: str
    channels: tuple[Channel, ...]
    room: int
    now: float
    attempted: list[Delivery] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DueCallbacks:
    """Due deliveries to callback URLs, within the shares of their receivers."""

    process: str
    room: int
    shares: ConcurrencyLimits
    now: float
    attempted: list[Delivery] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)


Claim = OfCrew | InStates | DueDeliveries | DueCallbacks


@dataclass(frozen=True, slots=True)
class Taken:
    """Rows that a process took: runs by their ids, with the versions that they then had, and ids of deliveries."""

    process: str
    runs: Mapping[str, int] = field(default_factory=dict)
    deliveries: Sequence[str] = ()


def claim_runs(connection: Connection, requests: Sequence[OfCrew | InStates]) -> list[list[Run]]:
    """Take the rows that each wish asks for; none for a process that was given up."""
    if not lives(connection, requests[0].process):
        return [[] for _ in requests]
    for crew in sorted({request.crew for request in requests if isinstance(request, OfCrew)}):
        # Counting and taking are one act among all processes; in order, or two could wait for each other.
        dialect.serialize(connection, "slots", crew)
    return [_claim_runs(connection, request) for request in requests]


def claim_deliveries(connection: Connection, requests: Sequence[DueDeliveries]) -> list[list[Delivery]]:
    """Take the deliveries that each wish asks for; none for a process that was given up."""
    if not lives(connection, requests[0].process):
        return [[] for _ in requests]
    return [_claim_deliveries(connection, request) for request in requests]


def taken_by(claim: Claim) -> Taken:
    """What the last transaction of a claim took."""
    if isinstance(claim, OfCrew | InStates):
        return Taken(claim.process, runs={run.run_id: run.version for run in claim.attempted})
    return Taken(claim.process, deliveries=[delivery.delivery_id for delivery in claim.attempted])


def release_claim(connection: Connection, taken: Taken) -> None:
    """Free what a process took and does not work on, as far as it is still as it was taken."""
    if taken.runs:
        as_taken = tuple_(runs.c.run_id, runs.c.version).in_(list(taken.runs.items()))
        freed = update(runs).where(as_taken, runs.c.owner == taken.process)
        connection.execute(freed.values(owner=None, version=runs.c.version + 1))
    if taken.deliveries:
        own_rows = deliveries.c.delivery_id.in_(taken.deliveries) & (deliveries.c.owner == taken.process)
        connection.execute(update(deliveries).where(own_rows).values(owner=None))


def join(connection: Connection, process: str, crews: Collection[str], now: float) -> None:
    """Make a process one of those that may own rows, and name the crews that it serves."""
    connection.execute(processes.insert().values(name=process, heartbeat_at=dialect.clock(connection, now)))
    if crews:
        connection.execute(served_crews.insert(), [{"crew": crew, "process": process} for crew in sorted(crews)])


def heartbeat(connection: Connection, process: str, now: float) -> bool:
    """Write down that a process lives; whether it has not been given up."""
    alive = update(processes).where(processes.c.name == process).values(heartbeat_at=dialect.clock(connection, now))
    return connection.execute(alive).rowcount > 0


def expire_processes(connection: Connection, now: float, silent_for: float) -> int:
    """Release everything that belongs to processes without a sign of life for so long, and forget them."""
    silent = select(processes.c.name).where(processes.c.heartbeat_at < dialect.clock(connection, now) - silent_for)
    names = connection.execute(silent.with_for_update(skip_locked=True)).scalars().all()
    if names:
        release(connection, names)
    return len(names)


def release(connection: Connection, names: Sequence[str]) -> None:
    """Give back every row of these processes and forget them."""
    # The states are named because the index of owners begins with them; without them, all runs would be read.
    own_rows = runs.c.state.in_(list(State)) & runs.c.owner.in_(names)
    connection.execute(update(runs).where(own_rows).values(owner=None, version=runs.c.version + 1))
    connection.execute(update(deliveries).where(deliveries.c.owner.in_(names)).values(owner=None))
    connection.execute(delete(processes).where(processes.c.name.in_(names)))


def lives(connection: Connection, process: str) -> bool:
    """Whether this process has not been given up; it cannot be until the transaction ends."""
    return connection.execute(_HOLD_ME, {"process": process}).first() is not None


def _claim_runs(connection: Connection, request: OfCrew | InStates) -> list[Run]:
    request.attempted.clear()
    request.unreadable.clear()
    ids = _waiting(connection, request) if isinstance(request, OfCrew) else _in_states(connection, request)
    if not ids:
        return []
    take = _CLAIM_FOR_TRACKING if isinstance(request, InStates) and request.now is None else _TAKE_WHOLE
    rows = {row.run_id: row for row in connection.execute(take, {"ids": ids, "process": request.process})}
    found, request.unreadable[:] = decoded((rows[run_id] for run_id in ids), run_from_row, "run_id")
    if (
        request.unreadable and request.now is not None
    ):  # others stay with this process, so that they are not claimed again
        postpone(connection, request.unreadable, request.now)
    request.attempted.extend(found)
    return list(request.attempted)


def _in_states(connection: Connection, request: InStates) -> Sequence[str]:
    query = select(runs.c.run_id).where(runs.c.state.in_(sorted(request.states)), runs.c.owner.is_(None))
    if request.crews is not None and all(state in _OPEN_STATES for state in request.states):
        # By the index that begins with the crew: runs of crews that no process serves, however many, are not read.
        query = query.where(text(OPEN), runs.c.crew.in_(sorted(request.crews)))
    elif request.crews is not None:
        # As an expression, or SQLite takes an index that begins with the crew and reads all its runs that ever were.
        query = query.where(runs.c.crew.concat("").in_(sorted(request.crews)))
    if request.now is None:  # in no order: after a restart all that were under way are among them
        some = query.where(runs.c.due_at.is_(None)).limit(request.room)
    else:
        some = query.where(runs.c.due_at <= request.now).order_by(runs.c.due_at, runs.c.run_id).limit(request.room)
    return connection.execute(some.with_for_update(skip_locked=True)).scalars().all()


def _waiting(connection: Connection, request: OfCrew) -> Sequence[str]:
    """The runs to start next, by priority and age, as far as there are places and budgets left."""
    slots = _free_slots(connection, request)
    free = min(request.room, slots, budgets.left_of_crew(connection, request.crew, request.budgets.crew, request.now))
    if free <= 0:
        return []
    taken = _within_budgets(connection, request, int(free))
    if request.sure is not None:
        request.sure.taken(request.crew, len(taken))
    return taken


def _within_budgets(connection: Connection, request: OfCrew, room: int) -> list[str]:
    """The first so many waiting runs whose senders have something left, each as many as that.

    Read again as long as somebody's budget ended within what was read: whoever waits behind his backlog has turns, too.
    """
    left = budgets.left_of_senders(connection, request.budgets.senders, request.now)
    taken: list[str] = []
    while len(taken) < room:
        spent = [sender for sender, count in left.items() if count <= 0]
        wanted = {"crew": request.crew, "now": request.now, "spent": spent, "taken": taken, "room": room - len(taken)}
        found = connection.execute(_WAITING, wanted).all()
        within = budgets.take_within(found, left)
        taken += within
        if len(within) == len(found):
            break
    return taken


def _free_slots(connection: Connection, request: OfCrew) -> int:
    """How many runs the crew may have besides those that hold places; counted only if it matters."""
    if request.sure is not None and (sure := request.sure.of(request.crew, request.max_running)) >= request.room:
        return sure
    free = request.max_running - connection.execute(_SLOTS_HELD, {"crew": request.crew}).scalar_one()
    if request.sure is not None:
        request.sure.counted(request.crew, request.max_running, free)
    return free


def _claim_deliveries(connection: Connection, request: DueDeliveries) -> list[Delivery]:
    request.attempted.clear()
    request.unreadable.clear()
    channels = [channel.value for channel in request.channels]
    due = connection.execute(_DUE, {"channels": channels, "now": request.now, "room": request.room})
    ids = due.scalars().all()
    if not ids:
        return []
    request.attempted.extend(take_deliveries(connection, ids, request))
    return list(request.attempted)


def take_deliveries(
    connection: Connection, ids: Sequence[str], request: DueDeliveries | DueCallbacks
) -> list[Delivery]:
    """Own the longest due of these deliveries, as many as fit in memory, and return them in this order."""
    sizes = connection.execute(_SIZES, {"ids": ids}).all()
    taken = list(within([(delivery_id, size) for delivery_id, size in sizes], CLAIM_BYTES))
    connection.execute(_TAKE_DELIVERIES, {"ids": taken, "process": request.process})
    rows = connection.execute(_TAKEN_DELIVERIES, {"ids": taken})
    found, request.unreadable[:] = decoded(rows, delivery_from_row, "delivery_id")
    if request.unreadable:
        mark_dead(connection, request.unreadable)
    return found
