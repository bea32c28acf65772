"""Remaining budgets, counted from the stored runs, so that they hold across processes and crashes.

A run counts from the time at which its POST was about to leave, unless it is certain that nothing was started.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, text

from bridge.adapters.store import dialect
from bridge.adapters.store.schema import OF_CLIENT, WAITING, runs
from bridge.core.runs.budget import Budget, Budgets
from bridge.core.runs.model import Run

MAX_COUNTED = 100_000  # waiting runs; the wait in a longer queue is underestimated


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


def seconds_until_budget(connection: Connection, run: Run, budgets: Budgets, now: float) -> float:
    """Return the estimated seconds until the budgets permit a waiting run to start."""
    of_crew, of_sender, sender = runs.c.crew == run.crew, runs.c.source == run.envelope.source, run.envelope.source
    if connection.execute(select(runs.c.run_id).where(runs.c.run_id == run.run_id, text(WAITING))).first() is None:
        return 0.0  # claimed: about to start
    wait = 0.0
    if budgets.crew is not None:
        wait = _seconds_to_wait(connection, [of_crew], [of_crew], budgets.crew, now)
    if sender in budgets.senders:
        budget, sent_by = budgets.senders[sender], _sent_by(sender)
        wait = max(wait, _seconds_to_wait(connection, [of_crew, of_sender], sent_by, budget, now))
    return wait


def _sent_by(sender: str) -> list[ColumnElement[bool]]:
    return [runs.c.source == sender, text(OF_CLIENT)]  # type: ignore[list-item]  # the index's own condition


def _remaining(connection: Connection, sent_by: Sequence[Any], budget: Budget, now: float) -> int:
    sent = select(func.count()).where(*sent_by, runs.c.sent_at > now - budget.per)
    return budget.runs - connection.execute(sent).scalar_one()


def _seconds_to_wait(
    connection: Connection, waiting_of: Sequence[Any], sent_by: Sequence[Any], budget: Budget, now: float
) -> float:
    queued = select(runs.c.run_id).where(*waiting_of, text(WAITING)).limit(MAX_COUNTED)
    ahead = queued.order_by(runs.c.priority.desc(), runs.c.run_id).subquery()  # ordered, so that the index is used
    waiting = connection.execute(select(func.count()).select_from(ahead)).scalar_one()
    back, more = budget.next_start(max(waiting - 1, 0))
    sent = select(runs.c.sent_at).where(*sent_by, runs.c.sent_at > now - budget.per).order_by(runs.c.sent_at.desc())
    start = connection.execute(sent.offset(back).limit(1)).scalar_one_or_none()
    return more if start is None else start + budget.per - now + more
