"""What the status of an execution means for its run.

`observe` determines, once per poll, what a response changes for a tracked run; most responses change nothing.
`apply_observation` turns these changes into the run's next row and events. Everything about questions is in
`human_input.rules`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, assert_never

from bridge.core.crew import responses, tasks
from bridge.core.crew_policy import CrewPolicy
from bridge.core.human_input import rules
from bridge.core.runs import changes, history, state_machine, tracking
from bridge.core.runs.model import Decision, Outcome, Run, RunError, State, TrackedRun
from bridge.core.values import replace


@dataclass(frozen=True, slots=True)
class Observation:
    """A poll sent at `polled_at` and what it revealed; `before` and `tracked`: the run as tracked before and after it.

    A deadline that passes while the response was in transit does not count.
    """

    before: TrackedRun
    response: responses.StatusResponse
    polled_at: float
    tracked: TrackedRun
    changes: tuple[changes.Change, ...]


def observe(
    before: TrackedRun, response: responses.StatusResponse, policy: CrewPolicy, polled_at: float
) -> Observation:
    """Return what a response means for a tracked run. Without `changes`, there is nothing to store."""
    if before.first_polled_at is None:
        before = replace(before, first_polled_at=polled_at)
    tracked = tracking.record_response(before, response, policy, polled_at)
    if (end := _end(tracked, response, policy, polled_at)) is not None:
        return Observation(before, response, polled_at, tracked, (end,))
    tracked = rules.count_pauses(tracked, response, policy, polled_at)
    found = tuple(_changes(before, tracked, response, policy, polled_at))
    return Observation(before, response, polled_at, tracked, found)


def apply_observation(run: Run, observation: Observation, policy: CrewPolicy) -> Decision:
    """Apply an observation to the stored run; after a concurrent write, observe the run as stored first."""
    if (before := tracking.sync_with_run(observation.before, run)) != observation.before:
        observation = observe(before, observation.response, policy, observation.polled_at)
    tracked, polled_at = observation.tracked, observation.polled_at
    run = state_machine.clear_deferral(run)
    entries = run.history
    if not run.polls:
        entries = history.added(entries, "first_poll", tracked.first_polled_at or polled_at)
    if any(isinstance(change, changes.End) for change in observation.changes):
        entries = history.added(entries, "last_poll", polled_at, polls=tracked.polls)
    polled = replace(
        run, polls=tracked.polls, started_at=tracked.started_at, unverified=tracked.unverified, history=entries
    )
    decision = Decision(polled)
    for change in observation.changes:
        decision = _apply_change(decision.run, change, policy, polled_at).after(decision)
    return decision


def _end(
    tracked: TrackedRun, response: responses.StatusResponse, policy: CrewPolicy, polled_at: float
) -> changes.Change | None:
    """Return the change that ends the tracking of the run, if any."""
    if isinstance(response, responses.Succeeded):
        outcome = Outcome(response.result, response.result_json, response.usage)
        return changes.Ended(State.SUCCEEDED, outcome, response.progress, response.tasks)
    if isinstance(response, responses.Failed):
        return changes.Ended(State.FAILED, Outcome(error=RunError("execution_failed", response.message)))
    if isinstance(response, responses.TooLarge) and response.succeeded:
        return changes.Ended(State.FAILED, Outcome(error=state_machine.result_too_large(policy)))
    lost, overdue = _lost(tracked, response, policy, polled_at), _overdue(tracked, response, polled_at)
    if tracked.unverified and (lost or overdue):
        return changes.NeverKnown()
    if lost:
        return changes.Lost()
    return changes.DeadlineExceeded(tracked.deadline, _unreadable(response)) if overdue else None


def _unreadable(response: responses.StatusResponse) -> str | None:
    match response:
        case responses.TooLarge():
            return "it exceeds max_response of the crew"
        case responses.Unknown(what):
            return what
        case _:
            return None


def _changes(
    before: TrackedRun,
    tracked: TrackedRun,
    response: responses.StatusResponse,
    policy: CrewPolicy,
    polled_at: float,
) -> Iterator[changes.Change]:
    if before.started_at is None and tracked.started_at is not None:
        yield changes.TrackingChange.FIRST_SEEN
    if tracked.unverified is not before.unverified:
        yield changes.TrackingChange.VERIFIED
    if before.deferred:
        yield changes.TrackingChange.POLLING_RESUMED
    if isinstance(response, responses.Running) and tracked.progress != before.progress:
        yield changes.Progressed(response.progress, response.tasks)
    if (question_change := rules.question_change(tracked, response, policy, polled_at)) is not None:
        yield question_change


def _lost(tracked: TrackedRun, response: responses.StatusResponse, policy: CrewPolicy, now: float) -> bool:
    """Return whether the execution is lost; where NOT FOUND can mean waiting for a human, only the deadline counts."""
    may_wait = policy.human_input or tracked.human_input.question is not None
    return not may_wait and isinstance(response, responses.NotFound) and tracking.long_missing(tracked, now)


def _overdue(tracked: TrackedRun, response: responses.StatusResponse, polled_at: float) -> bool:
    """Return whether a poll made after the deadline reports an execution that has not ended; errors do not count."""
    passed = tracked.deadline_at is not None and polled_at >= tracked.deadline_at
    return passed and not isinstance(response, responses.NoResponse | responses.CrewUnavailable)


def _apply_change(run: Run, change: changes.Change, policy: CrewPolicy, now: float) -> Decision:
    match change:
        case changes.Ended(state, outcome, progress, reported):
            last = replace(run, progress=progress or run.progress, tasks=tasks.with_reported(run.tasks, reported))
            return state_machine.finish(last, state, outcome, policy, now)
        case changes.NeverKnown():
            return state_machine.on_never_known(run, policy, now)
        case changes.Lost():
            error = RunError("lost", "the crew API no longer knows the execution")
            return state_machine.finish(run, State.FAILED, Outcome(error=error), policy, now)
        case changes.DeadlineExceeded(deadline, unreadable):
            message = f"not ended {deadline:g} s after it was first seen started"
            message += "" if unreadable is None else f", as far as its status can be read: {unreadable}"
            error = RunError("deadline_exceeded", message)
            return state_machine.finish(run, State.TIMED_OUT, Outcome(error=error), policy, now)
        case changes.Progressed(progress, reported):
            with_tasks = replace(run, tasks=tasks.with_reported(run.tasks, reported))
            return _on_progress(with_tasks, progress, policy, now)
        case changes.TrackingChange():
            return Decision(run)  # `apply_observation` has written it to the row
        case changes.QuestionChange():
            return rules.apply_question_change(run, change, policy, now)
        case _:
            assert_never(change)


def _on_progress(run: Run, progress: Any, policy: CrewPolicy, now: float) -> Decision:
    if tracking.progress_key(progress) == tracking.progress_key(run.progress):
        return Decision(run)  # stored by another poll
    progressed = replace(run, progress=progress)
    return state_machine.with_optional_event(progressed, "progress", policy, now, sequence=run.polls)
