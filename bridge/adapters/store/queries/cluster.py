"""Shared state of the processes on one store: membership, released runs, and what is deleted after its retention."""

from collections.abc import Collection, Sequence
from functools import partial

from sqlalchemy import Connection, bindparam, delete, exists, func, select, text, update

from bridge.adapters.store import dialect
from bridge.adapters.store.connections import Connections
from bridge.adapters.store.group_commit import Batches
from bridge.adapters.store.ownership import Ownership
from bridge.adapters.store.queries import claims
from bridge.adapters.store.schema import OPEN, deliveries, events, receivers, runs, served_crews
from bridge.core.crew.fair_share import Membership
from bridge.core.delivery.model import DeliveryState
from bridge.core.errors import ProcessExpired
from bridge.core.runs.model import State

_NEXT_CREW = select(func.min(runs.c.crew)).where(text(OPEN), runs.c.crew > bindparam("after"))
_COUNT_OPEN = select(func.count()).where(text(OPEN), runs.c.crew == bindparam("crew"))
_TRACKED = runs.c.state.in_([State.RUNNING.value, State.WAITING_FOR_HUMAN.value])


class SqlCluster:
    """`ports.Cluster` of one process. `crews`: those that it serves; shared with other parts of the store."""

    def __init__(self, batches: Batches, reader: Connections, ownership: Ownership, crews: set[str]) -> None:
        self._batches = batches
        self._reader = reader
        self._ownership = ownership
        self._crews = crews

    async def join(self, now: float) -> None:
        """Register this process as one that may own rows."""
        await self._batches.write_one(
            partial(claims.join, process=self._ownership.process, crews=frozenset(self._crews), now=now)
        )

    async def serve(self, crews: Collection[str]) -> None:
        await self._batches.write_one(partial(claims.serve, process=self._ownership.process, crews=crews))
        self._crews.clear()
        self._crews.update(crews)

    def release_crews(self, crews: Collection[str]) -> None:
        self._ownership.release_later(partial(claims.release_crews, process=self._ownership.process, crews=crews))

    async def heartbeat(self, now: float) -> None:
        """First terminate sessions of stopped processes, over a reader, because the writer may wait for their locks."""
        await self._reader.read(dialect.end_idle_sessions)
        if not await self._batches.write_one(partial(claims.heartbeat, process=self._ownership.process, now=now)):
            raise ProcessExpired("this process was silent for too long")
        if unclaimed := self._ownership.handoff.take_unclaimed(now):
            release = partial(claims.release_deliveries, owned=unclaimed, process=self._ownership.process)
            self._ownership.release_later(release)
            await self._ownership.release()

    async def expire_processes(self, now: float, silent_for: float) -> int:
        return await self._batches.write_one(partial(claims.expire_processes, now=now, silent_for=silent_for))

    async def rejoin(self, now: float) -> str:
        self._ownership.rename()
        await self.join(now)
        return self._ownership.process

    async def leave(self) -> None:
        """Release every claim, and remove this process."""
        await self._batches.write_one(partial(claims.release, names=[self._ownership.process]))

    async def membership(self) -> dict[str, Membership]:
        return await self._reader.read(
            partial(_count_membership, process=self._ownership.process, crews=frozenset(self._crews))
        )

    async def unserved(self) -> dict[str, int]:
        return await self._reader.read(_count_unserved)

    async def release_runs(self, run_ids: Collection[str]) -> int:
        return await self._batches.write_one(
            partial(_release_runs, process=self._ownership.process, run_ids=list(run_ids))
        )

    async def delete_ended_runs(self, ended_before: float, limit: int) -> int:
        return await self._batches.write_one(partial(_delete_ended_runs, ended_before=ended_before, limit=limit))


def _count_membership(connection: Connection, process: str, crews: Collection[str]) -> dict[str, Membership]:
    serving = select(served_crews.c.crew, func.count()).where(served_crews.c.crew.in_(crews))
    alive = {row[0]: row[1] for row in connection.execute(serving.group_by(served_crews.c.crew))}
    own_runs = func.count().filter(runs.c.owner == process)
    tracked_runs = select(runs.c.crew, func.count(), own_runs).where(text(OPEN), _TRACKED, runs.c.crew.in_(crews))
    counts = {row[0]: (row[1], row[2]) for row in connection.execute(tracked_runs.group_by(runs.c.crew))}
    return {crew: Membership(alive.get(crew, 0), *counts.get(crew, (0, 0))) for crew in crews}


def crews_served(connection: Connection) -> frozenset[str]:
    """Return the crews that at least one process serves."""
    return frozenset(connection.execute(select(served_crews.c.crew).distinct()).scalars())


def _count_unserved(connection: Connection) -> dict[str, int]:
    """Skip from one crew to the next by the index, so that the runs of served crews are not read."""
    alive, counts = crews_served(connection), dict[str, int]()
    after = ""
    while (crew := connection.execute(_NEXT_CREW, {"after": after}).scalar_one()) is not None:
        if crew not in alive:
            counts[crew] = connection.execute(_COUNT_OPEN, {"crew": crew}).scalar_one()
        after = crew
    return counts


def _release_runs(connection: Connection, process: str, run_ids: Sequence[str]) -> int:
    """Release tracked runs; their new versions discard responses that are still in progress."""
    own_runs = runs.c.run_id.in_(run_ids) & (runs.c.owner == process) & _TRACKED
    return connection.execute(update(runs).where(own_runs).values(owner=None, version=runs.c.version + 1)).rowcount


def _delete_ended_runs(connection: Connection, ended_before: float, limit: int) -> int:
    """Delete runs that ended before then, and events of no run that were created before then; return how many runs.

    At most `limit` of each, oldest first, because no other transaction can write meanwhile, and a larger deletion would
    exceed the statement timeout.
    """
    pending = (deliveries.c.event_id == events.c.event_id) & (deliveries.c.state == DeliveryState.PENDING.value)
    waiting = exists().where(events.c.run_id == runs.c.run_id, pending)
    old = select(runs.c.run_id).where(runs.c.finished_at < ended_before, ~waiting).order_by(runs.c.finished_at)
    ended = connection.execute(delete(runs).where(runs.c.run_id.in_(old.limit(limit))))
    of_no_run = events.c.run_id.is_(None)
    done = select(events.c.event_id).where(of_no_run, events.c.created_at < ended_before, ~exists().where(pending))
    deleted_events = connection.execute(delete(events).where(events.c.event_id.in_(done.limit(limit))))
    if ended.rowcount or deleted_events.rowcount:
        referenced = exists().where(deliveries.c.receiver == receivers.c.receiver)
        connection.execute(delete(receivers).where(~referenced))
    return ended.rowcount
