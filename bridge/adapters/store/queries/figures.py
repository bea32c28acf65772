"""Counts unfinished rows for the gauges, and ended runs by the minute: each query reads a range of an index."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, bindparam, func, select, text

from bridge.adapters.store.queries import kickoffs
from bridge.adapters.store.queries.budgets import remaining_for_crew
from bridge.adapters.store.schema import OPEN, UNDELIVERED, deliveries, runs
from bridge.core.runs.budget import Budget
from bridge.ports.queries import Backlog, RunEnds, StoreFigures

_OPEN_RUNS = select(runs.c.crew, runs.c.state, func.count().label("number")).where(text(OPEN))
_BY_CREW = _OPEN_RUNS.group_by(runs.c.crew, runs.c.state).subquery("by_crew")
_OLDER = runs.alias("older")
_OLDEST = (  # ids of runs sort by time, so the index by crew and state begins with the oldest one
    select(_OLDER.c.accepted_at)
    .where(_OLDER.c.crew == _BY_CREW.c.crew, _OLDER.c.state == _BY_CREW.c.state)
    .order_by(_OLDER.c.run_id)
    .limit(1)
    .scalar_subquery()
)
_RUNS = select(_BY_CREW.c.crew, _BY_CREW.c.state, _BY_CREW.c.number, _OLDEST)
_DELIVERIES = (
    select(deliveries.c.channel, deliveries.c.state, func.count(), func.min(deliveries.c.created_at))
    .where(text(UNDELIVERED))
    .group_by(deliveries.c.channel, deliveries.c.state)
)
_ENDS = (
    select(runs.c.crew, runs.c.state, func.count())
    .where(runs.c.finished_at >= bindparam("minute"), runs.c.finished_at < bindparam("minute") + 60.0)
    .group_by(runs.c.crew, runs.c.state)
)


def figures(connection: Connection, budgets: Mapping[str, Budget], now: float) -> StoreFigures:
    """Return the figures of the whole store, and what is used of these crews' budgets."""
    open_runs = {(row[0], row[1]): Backlog(row[2], row[3]) for row in connection.execute(_RUNS)}
    return StoreFigures(
        runs=open_runs,
        deliveries={(row[0], row[1]): Backlog(row[2], row[3]) for row in connection.execute(_DELIVERIES)},
        budgets_used={
            crew: (budget.runs - remaining_for_crew(connection, crew, budget, now)) / budget.runs
            for crew, budget in budgets.items()
        },
        slots_held=kickoffs.usage(connection, {crew: None for crew, _ in open_runs}, {}, now).slots_held,
    )


def run_ends(connection: Connection, minutes: Collection[float]) -> dict[float, RunEnds]:
    """Return the runs that ended in each minute, each a range of the index by time."""
    return {
        minute: {(row[0], row[1]): row[2] for row in connection.execute(_ENDS, {"minute": minute})}
        for minute in minutes
    }
