"""Shared state of the processes on one store: membership, and released runs."""

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, bindparam, func, select, text, update

from bridge.adapters.store.schema import OPEN, runs, served_crews
from bridge.core.crew.fair_share import Membership
from bridge.core.runs.model import State

_NEXT_CREW = select(func.min(runs.c.crew)).where(text(OPEN), runs.c.crew > bindparam("after"))
_COUNT_OPEN = select(func.count()).where(text(OPEN), runs.c.crew == bindparam("crew"))
_TRACKED = runs.c.state.in_([State.RUNNING.value, State.WAITING_FOR_HUMAN.value])


def count_membership(connection: Connection, process: str, crews: Collection[str]) -> dict[str, Membership]:
    """Count, per crew, the processes that serve it and the tracked runs."""
    serving = select(served_crews.c.crew, func.count()).where(served_crews.c.crew.in_(crews))
    alive = {row[0]: row[1] for row in connection.execute(serving.group_by(served_crews.c.crew))}
    own_runs = func.count().filter(runs.c.owner == process)
    tracked_runs = select(runs.c.crew, func.count(), own_runs).where(text(OPEN), _TRACKED, runs.c.crew.in_(crews))
    counts = {row[0]: (row[1], row[2]) for row in connection.execute(tracked_runs.group_by(runs.c.crew))}
    return {crew: Membership(alive.get(crew, 0), *counts.get(crew, (0, 0))) for crew in crews}


def crews_served(connection: Connection) -> frozenset[str]:
    """Return the crews that at least one process serves."""
    return frozenset(connection.execute(select(served_crews.c.crew).distinct()).scalars())


def unserved(connection: Connection) -> dict[str, int]:
    """Count the unfinished runs of each crew that no process serves.

    Skips from one crew to the next by the index, so that the runs of served crews are not read.
    """
    alive, counts = crews_served(connection), dict[str, int]()
    after = ""
    while (crew := connection.execute(_NEXT_CREW, {"after": after}).scalar_one()) is not None:
        if crew not in alive:
            counts[crew] = connection.execute(_COUNT_OPEN, {"crew": crew}).scalar_one()
        after = crew
    return counts


def release_runs(connection: Connection, process: str, run_ids: Sequence[str]) -> int:
    """Release tracked runs and return how many; their new versions discard responses that are still in progress."""
    own_runs = runs.c.run_id.in_(run_ids) & (runs.c.owner == process) & _TRACKED
    return connection.execute(update(runs).where(own_runs).values(owner=None, version=runs.c.version + 1)).rowcount
