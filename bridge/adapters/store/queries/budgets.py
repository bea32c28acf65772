"""Remaining budgets, counted from the stored runs, so that they hold across processes and crashes.

A run counts from the time at which its POST was about to leave, unless it is certain that nothing was started.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, text

from bridge.adapters.store import dialect
from bridge.adapters.store.schema import OF_CLIENT, runs
from bridge.core.runs.budget import Budget, SpentBudget


def remaining_for_crew(connection: Connection, crew: str, budget: Budget | None, now: float) -> float:
    """Return how many runs of a crew may be started now."""
    return math.inf if budget is None else _remaining(connection, [runs.c.crew == crew], budget, now)


def remaining_for_senders(connection: Connection, budgets: Mapping[str, Budget], now: float) -> dict[str, int]:
    """Return how many runs of each sender may be started now; lock the budgets until the transaction ends."""
    if budgets:
        dialect.serialize(connection, "budgets")  # counting and claiming must be atomic across processes
    return {sender: _remaining(connection, _sent_by(sender), budget, now) for sender, budget in budgets.items()}


def pick_within_budgets(found: Iterable[tuple[str, str]], left: dict[str, int]) -> list[str]:
    """Return the runs that their senders' budgets permit, in order, and reduce `left`. `found`: ids and senders."""
    taken = []
    for run_id, sender in found:
        if sender in left:
            if left[sender] <= 0:
                continue
            left[sender] -= 1
        taken.append(run_id)
    return taken


def spent_by_crews(connection: Connection, budgets: Mapping[str, Budget], now: float) -> dict[str, SpentBudget]:
    """Return the spent ones of these budgets of crews."""
    found = ((crew, _find_spent(connection, [runs.c.crew == crew], budget, now)) for crew, budget in budgets.items())
    return {crew: spent for crew, spent in found if spent is not None}


def spent_by_senders(connection: Connection, budgets: Mapping[str, Budget], now: float) -> dict[str, SpentBudget]:
    """Return the spent ones of these budgets of senders."""
    found = ((sender, _find_spent(connection, _sent_by(sender), budget, now)) for sender, budget in budgets.items())
    return {sender: spent for sender, spent in found if spent is not None}


def _find_spent(connection: Connection, sent_by: Sequence[Any], budget: Budget, now: float) -> SpentBudget | None:
    """Return when the budget permits a start again: once the last start that uses it up no longer counts."""
    counted = select(runs.c.sent_at).where(*sent_by, runs.c.sent_at > now - budget.per)
    last = connection.execute(counted.order_by(runs.c.sent_at.desc()).offset(budget.runs - 1).limit(1)).scalar()
    return None if last is None else SpentBudget(budget.runs, budget.per, last + budget.per)


def _sent_by(sender: str) -> list[ColumnElement[bool]]:
    return [runs.c.source == sender, text(OF_CLIENT)]  # type: ignore[list-item]  # the index's own condition


def _remaining(connection: Connection, sent_by: Sequence[Any], budget: Budget, now: float) -> int:
    sent = select(func.count()).where(*sent_by, runs.c.sent_at > now - budget.per)
    return budget.runs - connection.execute(sent).scalar_one()
