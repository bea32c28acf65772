"""Run times that the bridge learns from: the last ones of each crew, shared by all processes on the store."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, func, or_, select

from bridge.adapters.store import dialect
from bridge.adapters.store.tables import run_times
from bridge.core.model import RunTime


@dataclass(frozen=True, slots=True)
class Keep:
    """Run times of one crew that are new; of all its run times the last `most` are kept that ended since then."""

    crew: str
    new: Sequence[RunTime]
    since: float
    most: int


def ended_after(crew: str, moment: float, most: int) -> Select[Any]:
    """The last run times of a crew."""
    newest = run_times.c.ended_at.desc()
    return select(run_times).where(run_times.c.crew == crew, run_times.c.ended_at > moment).order_by(newest).limit(most)


def keep(connection: Connection, wishes: Sequence[Keep]) -> list[None]:
    """Add what is new, delete what is too old."""
    rows = [_row_of(run_time) for wish in wishes for run_time in wish.new]
    if rows:
        connection.execute(dialect.insert_new(connection, run_times), rows)
    for wish in wishes:
        connection.execute(_delete_old(wish))
    return [None] * len(wishes)


def _delete_old(wish: Keep) -> Any:
    newest_first = func.row_number().over(order_by=(run_times.c.ended_at.desc(), run_times.c.run_id))
    ranked = select(run_times.c.run_id, newest_first.label("rank")).where(run_times.c.crew == wish.crew).subquery()
    too_many = select(ranked.c.run_id).where(ranked.c.rank > wish.most)
    of_crew = run_times.c.crew == wish.crew
    return delete(run_times).where(of_crew, or_(run_times.c.ended_at < wish.since, run_times.c.run_id.in_(too_many)))


def run_time_of(row: Any) -> RunTime:
    """A run time as the core knows it."""
    task_marks = tuple((done, since) for done, since in json.loads(row.stages))
    return RunTime(row.run_id, row.crew, row.ended_at, row.earliest, row.latest, task_marks)


def _row_of(run_time: RunTime) -> dict[str, object]:
    return {
        "run_id": run_time.run_id,
        "crew": run_time.crew,
        "ended_at": run_time.ended_at,
        "earliest": run_time.earliest,
        "latest": run_time.latest,
        "stages": json.dumps(run_time.task_marks).encode(),
    }
