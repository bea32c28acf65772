"""An announced end of the execution of a run that has itself ended already."""

from dataclasses import replace

from bridge.core.runs.model import Decision, Run
from bridge.core.runs.state_machine import MAY_STILL_END


def on_announced_late_end(run: Run, now: float) -> Decision | None:
    """Poll the execution of an ended run now; None: its end is known, or it is polled or stopped now in any case."""
    if run.state not in MAY_STILL_END or run.due_at is None or run.due_at <= now or run.owner is not None:
        return None
    return Decision(replace(run, due_at=now))
