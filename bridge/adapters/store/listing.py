"""Which runs to show."""

from typing import Any

from sqlalchemy import Select, case, func, literal, select

from bridge.adapters.store.tables import runs
from bridge.ports import RunFilter

LARGEST = 256 * 1024  # bytes of a result that is listed; what an event carries unless told otherwise

_SIZE = func.coalesce(func.length(runs.c.result), 0) + func.coalesce(func.length(runs.c.result_json), 0)
_SHORTENED = {name: case((_SIZE <= LARGEST, runs.c[name])).label(name) for name in ("result", "result_json")} | {
    "inputs": literal(b"{}").label("inputs")
}
_LISTED = [_SHORTENED.get(column.name, column) for column in runs.c]
"""A page of whole runs would be gigabytes; what is not shown is not even read from the disk."""


def of_runs(which: RunFilter) -> Select[Any]:
    """The runs that are wanted, newest first, without their inputs and large results."""
    query = select(*_LISTED).order_by(runs.c.run_id.desc()).limit(which.limit)
    if which.state is not None:
        query = query.where(runs.c.state == which.state.value)
    if which.crew is not None:
        query = query.where(runs.c.crew == which.crew)
    if which.crews is not None:
        query = query.where(runs.c.crew.in_(sorted(which.crews)))
    if which.source is not None:
        query = query.where(runs.c.source == which.source)
    return query if which.before is None else query.where(runs.c.run_id < which.before)
