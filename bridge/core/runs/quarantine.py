"""Quarantine: defer an item whose processing raised an unexpected exception, while everything else continues.

A POST that may have left is never repeated: a run that was being started becomes `in_doubt`, never `accepted`.
"""

from dataclasses import replace
from enum import StrEnum

from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import history, state_machine, timing
from bridge.core.runs.model import Decision, Run, State

DETAIL = "internal error; see item_quarantined in the log"


class Quarantined(StrEnum):
    """The kind of item, or of work, that was quarantined."""

    RUN = "run"
    DELIVERY = "delivery"
    MESSAGE = "message"
    WEBHOOK = "webhook"
    REQUEST = "request"
    TASK = "task"


def defer(run: Run, policy: CrewPolicy, now: float) -> Decision | None:
    """Defer the stored run, with growing delays; return None if nothing is due for it.

    The run loses its owner, so that any process can continue it, also after this one ends.
    """
    deferral = timing.deferred_again(run.deferral, DETAIL, now)
    if run.state is State.STARTING:
        return state_machine.on_interrupted_kickoff(run, policy, now, DETAIL)
    if run.final:
        next_due = None if run.due_at is None else timing.next_late_poll_at(run, now)
        return None if run.due_at is None else Decision(replace(run, owner=None, due_at=next_due))
    if run.state is State.IN_DOUBT and run.due_at is None:
        return None
    deferred = replace(run, owner=None, due_at=deferral.until, deferral=deferral)
    return Decision(history.record(deferred, "deferred", now, reason=DETAIL))
