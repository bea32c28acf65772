"""What becomes of one item whose processing raised an unexpected exception: it is set aside, and nothing else stops.

A POST that may have left is never repeated: a run that was being started becomes `in_doubt`, never `accepted`.
"""

from dataclasses import replace
from enum import StrEnum

from bridge.core.runs import state_machine, timing
from bridge.core.runs.deferral import deferred_again
from bridge.core.runs.model import CrewPolicy, Decision, Run, State

DETAIL = "internal error; item_quarantined in the log says more"


class Quarantined(StrEnum):
    """What was set aside, or what kind of work was given up for the moment."""

    RUN = "run"
    DELIVERY = "delivery"
    MESSAGE = "message"
    WEBHOOK = "webhook"
    REQUEST = "request"
    TASK = "task"


def defer(run: Run, policy: CrewPolicy, now: float) -> Decision | None:
    """Defer the run as it is stored, with growing pauses; None: nothing is due for it.

    No process owns it meanwhile, so that it survives the end of this one, and any process may go on with it.
    """
    deferral = deferred_again(run.deferral, DETAIL, now)
    if run.state is State.STARTING:
        return state_machine.on_interrupted_kickoff(run, policy, now)
    if run.final:
        later = None if run.due_at is None else timing.next_late_poll_at(run, now)
        return None if run.due_at is None else Decision(replace(run, owner=None, due_at=later))
    if run.state is State.IN_DOUBT and run.due_at is None:
        return None
    return Decision(replace(run, owner=None, due_at=deferral.until, deferral=deferral))
