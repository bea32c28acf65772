"""Remaining run budgets, counted from the runs themselves, so that they hold across processes and crashes.

A run counts from the moment that its POST was about to leave, unless that proved to have started nothing; one that is
claimed and not sent yet counts as well.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, text

from bridge.adapters.store import dialect
from bridge.adapters.store.schema import OF_CLIENT, OPEN, WAITING, runs
from bridge.core.runs.budget import Budget, Budgets
from bridge.core.runs.model import Run, State

_CLAIMED = (runs.c.state == State.ACCEPTED.value) & runs.c.owner.is_not(None)
_IN_OPEN = text(OPEN)
"""The condition of the index `runs_open`; by the one for lists, every run that waits would be read."""
MOST_COUNTED = 100_000  # waiting runs; the wait behind a longer queue is not computed exactly


def remaining_for_crew(connection: Connection, crew: str, budget: Budget | None, now: float) -> float:
    """How many runs of a crew may be started now."""
    of_crew = runs.c.crew == crew
    return math.inf if budget is None else _left(connection, [of_crew, _IN_OPEN], [of_crew], budget, now)


def remaining_for_senders(connection: Connection, budgets: Mapping[str, Budget], now: float) -> dict[str, int]:
    """How many runs of each sender may be started now. Other transactions wait for this one to end."""
    if budgets:
        dialect.serialize(connection, "budgets")  # counting and taking are one act among all processes
    return {
        sender: _left(connection, [runs.c.source == sender], _sent_by(sender), budget, now)
        for sender, budget in budgets.items()
    }


def pick_within_budgets(found: Iterable[tuple[str, str]], left: dict[str, int]) -> list[str]:
    """The runs of those found (id and sender), in their order, that their senders' budgets permit.

    What is `left` for a sender is less by those afterwards.
    """
    taken = []
    for run_id, sender in found:
        if sender in left:
            if left[sender] <= 0:
                continue
            left[sender] -= 1
        taken.append(run_id)
    return taken


def seconds_until_budget(connection: Connection, run: Run, budgets: Budgets, now: float) -> float:
    """For how many seconds a waiting run has to wait for its budgets, as far as can be foreseen."""
    of_crew, of_sender, sender = runs.c.crew == run.crew, runs.c.source == run.envelope.source, run.envelope.source
    if connection.execute(select(runs.c.run_id).where(runs.c.run_id == run.run_id, _CLAIMED)).first():
        return 0.0  # it starts in a moment
    wait = 0.0
    if budgets.crew is not None:
        wait = _wait(connection, [of_crew], [of_crew, _IN_OPEN], [of_crew], budgets.crew, now)
    if sender in budgets.senders:
        budget, sent_by = budgets.senders[sender], _sent_by(sender)
        wait = max(wait, _wait(connection, [of_crew, of_sender], [of_sender], sent_by, budget, now))
    return wait


def _sent_by(sender: str) -> list[ColumnElement[bool]]:
    return [runs.c.source == sender, text(OF_CLIENT)]  # type: ignore[list-item]  # the index's own condition


def _left(connection: Connection, claimed_by: Sequence[Any], sent_by: Sequence[Any], budget: Budget, now: float) -> int:
    sent = select(func.count()).where(*sent_by, runs.c.sent_at > now - budget.per)
    claimed = select(func.count()).where(*claimed_by, _CLAIMED)
    both = select(sent.scalar_subquery() + claimed.scalar_subquery())
    spent: int = connection.execute(both).scalar_one()
    return budget.runs - spent


def _wait(
    connection: Connection,
    waiting_of: Sequence[Any],
    claimed_by: Sequence[Any],
    sent_by: Sequence[Any],
    budget: Budget,
    now: float,
) -> float:
    queued = select(runs.c.run_id).where(*waiting_of, text(WAITING)).limit(MOST_COUNTED)
    ahead = queued.order_by(
        runs.c.priority.desc(), runs.c.run_id
    ).subquery()  # the order of the index, or it is not used
    waiting = connection.execute(select(func.count()).select_from(ahead)).scalar_one()
    claimed = connection.execute(select(func.count()).where(*claimed_by, _CLAIMED)).scalar_one()
    back, more = budget.next_start(max(waiting - 1, 0))
    if back < claimed:  # the latest starts are those of runs that are claimed: now
        return budget.per + more
    sent = select(runs.c.sent_at).where(*sent_by, runs.c.sent_at > now - budget.per).order_by(runs.c.sent_at.desc())
    start = connection.execute(sent.offset(back - claimed).limit(1)).scalar_one_or_none()
    return more if start is None else start + budget.per - now + more
