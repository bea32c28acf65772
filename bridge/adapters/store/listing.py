"""Which runs to show."""

from typing import Any

from sqlalchemy import Select, select

from bridge.adapters.store.tables import runs
from bridge.ports import RunFilter


def of_runs(which: RunFilter) -> Select[Any]:
    """The runs that are wanted, newest first."""
    query = select(runs).order_by(runs.c.run_id.desc()).limit(which.limit)
    if which.state is not None:
        query = query.where(runs.c.state == which.state.value)
    if which.crew is not None:
        query = query.where(runs.c.crew == which.crew)
    if which.crews is not None:
        query = query.where(runs.c.crew.in_(sorted(which.crews)))
    if which.source is not None:
        query = query.where(runs.c.source == which.source)
    return query if which.before is None else query.where(runs.c.run_id < which.before)
