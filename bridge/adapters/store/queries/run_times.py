"""The last run times of each crew, shared by all processes on the store."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, func, or_, select

from bridge.adapters.store import dialect
from bridge.adapters.store.connections import Connections
from bridge.adapters.store.decoding import ReportUndecodable, decode_and_report
from bridge.adapters.store.group_commit import Batches
from bridge.adapters.store.schema import run_times
from bridge.core.runs.model import RunTime


class SqlRunTimes:
    """`ports.RunTimeStore`."""

    def __init__(self, batches: Batches, reader: Connections, report: ReportUndecodable) -> None:
        self._batches = batches
        self._reader = reader
        self._report = report

    async def add(self, crew: str, new: Sequence[RunTime], since: float, limit: int) -> None:
        await self._batches.write_one(partial(_add, crew=crew, new=new, since=since, limit=limit))

    async def newest(self, crew: str, after: float, limit: int) -> list[RunTime]:
        rows = await self._reader.read(partial(_newest, crew=crew, after=after, limit=limit))
        return decode_and_report(rows, _run_time_from_row, "run_id", self._report)


def _newest(connection: Connection, crew: str, after: float, limit: int) -> Sequence[Any]:
    query = select(run_times).where(run_times.c.crew == crew, run_times.c.ended_at > after)
    return connection.execute(query.order_by(run_times.c.ended_at.desc()).limit(limit)).all()


def _add(connection: Connection, crew: str, new: Sequence[RunTime], since: float, limit: int) -> None:
    if new:
        rows = [_row_from(run_time) for run_time in new]
        connection.execute(dialect.insert_or_ignore(connection, run_times), rows)
    newest_first = func.row_number().over(order_by=(run_times.c.ended_at.desc(), run_times.c.run_id))
    ranked = select(run_times.c.run_id, newest_first.label("rank")).where(run_times.c.crew == crew).subquery()
    too_many = run_times.c.run_id.in_(select(ranked.c.run_id).where(ranked.c.rank > limit))
    too_old = run_times.c.ended_at < since
    connection.execute(delete(run_times).where(run_times.c.crew == crew, or_(too_old, too_many)))


def _run_time_from_row(row: Any) -> RunTime:
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
