"""Counts unfinished rows for the gauges: each query reads an index of such rows only."""

from collections.abc import Mapping

from sqlalchemy import Connection, func, select, text

from bridge.adapters.store.queries import budgets
from bridge.adapters.store.schema import OPEN, UNDELIVERED, deliveries, runs
from bridge.core.runs.budget import Budget
from bridge.ports.queries import Backlog, StoreFigures

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


def figures(connection: Connection, limits: Mapping[str, Budget], now: float) -> StoreFigures:
    """Return the figures of the whole store, and what is used of these crews' budgets."""
    return StoreFigures(
        runs={(row[0], row[1]): Backlog(row[2], row[3]) for row in connection.execute(_RUNS)},
        deliveries={(row[0], row[1]): Backlog(row[2], row[3]) for row in connection.execute(_DELIVERIES)},
        budgets_used={
            crew: (budget.runs - budgets.remaining_for_crew(connection, crew, budget, now)) / budget.runs
            for crew, budget in limits.items()
        },
    )
