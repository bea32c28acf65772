"""Late results: executions whose runs have already ended are polled until they end, at long intervals."""

from dataclasses import replace

from bridge.core.crew import responses, tasks
from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery import events
from bridge.core.runs import history, state_machine, timing
from bridge.core.runs.model import Decision, Outcome, Run, RunError, State

MAY_STILL_END = frozenset({State.TIMED_OUT, State.CANCELLED, State.FAILED})
"""Final states whose execution may still end; of a failed run, only if evidence of the execution arrived later."""


def should_be_stopped(run: Run) -> bool:
    """Return whether to stop the execution of a cancelled or abandoned run before it is polled for a late result."""
    return run.state in {State.CANCELLED, State.FAILED} and run.due_at == run.finished_at


def on_end_signalled(run: Run, now: float) -> Decision | None:
    """Make the poll of an ended run's execution due now, because a webhook reported its end.

    Return None if the end is already known, or if the execution is being polled or stopped.
    """
    if run.state not in MAY_STILL_END or run.due_at is None or run.due_at <= now or run.owner is not None:
        return None
    return Decision(replace(run, due_at=now))


def on_poll(
    run: Run, response: responses.StatusResponse, policy: CrewPolicy, now: float, signalled_at: float | None = None
) -> Decision:
    """Emit `run.late_result` once if the execution of an ended run has ended; otherwise schedule the next poll."""
    match response:
        case responses.Succeeded(result, result_json, usage, _, reported):
            late = replace(
                run, outcome=Outcome(result, result_json, usage), tasks=tasks.with_reported(run.tasks, reported)
            )
        case responses.Failed(message):
            late = replace(run, outcome=Outcome(error=RunError("execution_failed", message)))
        case responses.TooLarge(succeeded=True):
            late = replace(run, outcome=Outcome(error=state_machine.result_too_large(policy)))
        case _:
            due_at = timing.signalled_end_poll_at(signalled_at, now) or timing.next_late_poll_at(run, now)
            return Decision(replace(run, owner=None, due_at=due_at))
    emitted = events.with_event(late, events.LATE_RESULT, policy, now)
    return replace(emitted, run=history.record(replace(run, owner=None, due_at=None), "late_result", now))
