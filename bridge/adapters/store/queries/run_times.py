"""The last run times of each crew, shared by all processes on the store."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, delete, func, or_, select

from bridge.adapters.store import dialect
from bridge.adapters.store.schema import run_times
from bridge.core.runs.model import RunTime


def select_newest(crew: str, after: float, limit: int) -> Select[Any]:
    """Select the last `limit` run times of a crew that ended after `after`."""
    newest = run_times.c.ended_at.desc()
    return select(run_times).where(run_times.c.crew == crew, run_times.c.ended_at > after).order_by(newest).limit(limit)


def add(connection: Connection, crew: str, new: Sequence[RunTime], since: float, limit: int) -> None:
    """Add run times of a crew; keep only the last `limit` of those that ended since `since`."""
    if new:
        rows = [_row_from(run_time) for run_time in new]
        connection.execute(dialect.insert_or_ignore(connection, run_times), rows)
    newest_first = func.row_number().over(order_by=(run_times.c.ended_at.desc(), run_times.c.run_id))
    ranked = select(run_times.c.run_id, newest_first.label("rank")).where(run_times.c.crew == crew).subquery()
    too_many = run_times.c.run_id.in_(select(ranked.c.run_id).where(ranked.c.rank > limit))
    too_old = run_times.c.ended_at < since
    connection.execute(delete(run_times).where(run_times.c.crew == crew, or_(too_old, too_many)))


def run_time_from_row(row: Any) -> RunTime:
    """Convert a row."""
    task_marks = tuple((done, since) for done, since in json.loads(row.task_marks))
    return RunTime(row.run_id, row.crew, row.ended_at, row.earliest, row.latest, task_marks)


def _row_from(run_time: RunTime) -> dict[str, object]:
    return {
        "run_id": run_time.run_id,
        "crew": run_time.crew,
        "ended_at": run_time.ended_at,
        "earliest": run_time.earliest,
        "latest": run_time.latest,
        "task_marks": json.dumps(run_time.task_marks).encode(),
    }
