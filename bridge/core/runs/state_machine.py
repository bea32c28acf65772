"""The state machine of a run: every transition, except those of questions, which `core.human_input.rules` makes.

Rules:

1. A run moves only along an entry of `TRANSITIONS`; anything else raises `IllegalTransition` and changes nothing.
2. A final state never changes. It is reached together with the run's one final event, in one `Decision`.
3. A run returns from `starting` or `in_doubt` to `accepted` only with proof that nothing was started, or by an
   explicit policy or operator. A paid execution is never started twice by mistake. The policy repeats a POST at most
   once per run; evidence that arrives before the repeated POST leaves (`accepted` -> `running`) makes it unnecessary.
4. A run returns to `in_doubt` only from an execution that an operator named and that the API has never known.
5. Time is an argument. A clock alone never ends a run: only a poll made after the deadline does.

Functions are named for what happened (`on_kickoff`, `on_cancelled` …) and return what the store must hold next.
"""

from dataclasses import replace
from typing import Any, assert_never

from bridge.core.crew import responses
from bridge.core.delivery import cloudevents
from bridge.core.errors import IllegalTransition
from bridge.core.human_input.model import QuestionStage
from bridge.core.numbers import read_number
from bridge.core.runs import timing
from bridge.core.runs.model import (
    CrewPolicy,
    Decision,
    DoubtPolicy,
    Envelope,
    KickoffRequest,
    Outcome,
    Progress,
    Run,
    RunError,
    State,
    TrackedRun,
)
from bridge.core.runs.request import fingerprint

_EVENT_SPACING = 0.002  # seconds; events are ordered by their times, which have millisecond resolution

TRANSITIONS: dict[State, frozenset[State]] = {
    State.ACCEPTED: frozenset({State.STARTING, State.RUNNING, State.CANCELLED}),
    State.STARTING: frozenset({State.RUNNING, State.ACCEPTED, State.IN_DOUBT, State.FAILED}),
    State.RUNNING: frozenset(
        {State.WAITING_FOR_HUMAN, State.IN_DOUBT, State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED},
    ),
    State.WAITING_FOR_HUMAN: frozenset(
        {State.RUNNING, State.IN_DOUBT, State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED},
    ),
    State.IN_DOUBT: frozenset({State.RUNNING, State.ACCEPTED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.TIMED_OUT: frozenset(),
    State.CANCELLED: frozenset(),
}

LOST_POLLS = 5  # polls in a row that did not find the execution,
LOST_AFTER = 60.0  # and seconds since it was last known to exist, until it counts as lost
MIN_PROGRESS_INTERVAL = 1.0  # seconds between two progress events of a run
MAX_AUTO_RETRIES = 1  # POSTs per run that `in_doubt: retry` repeats


def accept(request: KickoffRequest, envelope: Envelope, run_id: str, now: float) -> Run:
    """Return a new run for a request that passed every check."""
    return Run(
        run_id=run_id,
        request=request,
        envelope=envelope,
        fingerprint=fingerprint(request),
        state=State.ACCEPTED,
        accepted_at=now,
        due_at=now,
    )


def begin(run: Run, now: float) -> Decision:
    """Mark the POST as about to leave; store this before its first byte does."""
    return Decision(move(run, State.STARTING, attempt=run.attempt + 1, sent_at=now, due_at=None))


def on_kickoff(run: Run, response: responses.KickoffResponse, policy: CrewPolicy, now: float) -> Decision:
    """Apply the response to a kickoff, or the failure to send it."""
    match response:
        case responses.Started(kickoff_id):
            running = move(run, State.RUNNING, kickoff_id=kickoff_id)
            return _with_extra_event(running, "started", policy, now)
        case responses.Refused(message):
            unspent = replace(run, sent_at=None)
            return _finish(unspent, State.FAILED, Outcome(error=RunError("refused", message)), policy, now)
        case responses.NotStarted(_, after):
            return Decision(_not_started(run, timing.next_kickoff_at(run.run_id, run.attempt, now, after)))
        case responses.CrewUnavailable():
            return Decision(_not_started(run, timing.unavailable_retry_at(run.attempt, now)))
        case responses.InDoubt():
            return _into_doubt(run, policy, now)
        case _:
            assert_never(response)


def on_interrupted_kickoff(run: Run, policy: CrewPolicy, now: float) -> Decision:
    """Put a run in doubt whose process died during the POST: whether the POST left is not known."""
    return _into_doubt(run, policy, now)


def on_evidence_overdue(run: Run, policy: CrewPolicy, now: float) -> Decision:
    """Emit `run.in_doubt` and apply the crew's policy, because evidence is overdue. A held run is not due again.

    A run that is in doubt again after its automatic retry is held, however often operators have retried it.
    """
    doubted = cloudevents.with_event(run, cloudevents.IN_DOUBT, policy, now - _EVENT_SPACING, sequence=run.attempt)
    run = replace(run, in_doubt_emitted=run.attempt)
    match policy.in_doubt:
        case DoubtPolicy.RETRY if run.auto_retries < MAX_AUTO_RETRIES:
            return replace(doubted, run=requeue(replace(run, auto_retries=run.auto_retries + 1), now))
        case DoubtPolicy.HOLD | DoubtPolicy.RETRY:
            return replace(doubted, run=replace(run, due_at=None, owner=None, deferral=None))
        case DoubtPolicy.FAIL:
            why = "no evidence showed whether the execution was started"
            return on_abandoned(run, why, policy, now).after(doubted)
        case _:
            assert_never(policy.in_doubt)


def requeue(run: Run, now: float) -> Run:
    """Return a run in doubt to `accepted`, to be started again by its crew's policy or an operator."""
    return move(run, State.ACCEPTED, due_at=now, owner=None)


def on_abandoned(run: Run, why: str, policy: CrewPolicy, now: float) -> Decision:
    """Give up a run in doubt."""
    return _finish(run, State.FAILED, Outcome(error=RunError("abandoned", why)), policy, now)


def on_evidence(
    run: Run, kickoff_id: str, policy: CrewPolicy, now: float, *, attempt: int | None = None
) -> Decision | None:
    """Reconcile a run with the execution that one of its attempts has started; None: the run needs no such evidence.

    A run in doubt, or one that waits for its POST to be repeated, continues as if the POST had been answered. It has
    no owner, so that the recover step tracks it. A run that ended without an execution keeps its state; its execution
    is to be stopped and polled.
    """
    if attempt is not None and attempt > run.attempt:
        return None
    if run.state is State.IN_DOUBT or (run.state is State.ACCEPTED and run.attempt):
        running = move(run, State.RUNNING, kickoff_id=kickoff_id, due_at=None, owner=None)
        return _with_extra_event(running, "started", policy, now, run.polls + 1)
    if run.final and run.kickoff_id is None:
        return Decision(replace(run, kickoff_id=kickoff_id, due_at=run.finished_at, owner=None))
    return None


def on_late_response(
    run: Run, attempt: int, response: responses.KickoffResponse, policy: CrewPolicy, now: float
) -> Decision | None:
    """Reconcile a run with a response that arrived after another process took over the run."""
    if isinstance(response, responses.Started):
        return on_evidence(run, response.kickoff_id, policy, now, attempt=attempt)
    if run.state is not State.IN_DOUBT or run.attempt != attempt or isinstance(response, responses.InDoubt):
        return None
    return on_kickoff(run, response, policy, now)


def on_cancelled(run: Run, policy: CrewPolicy, now: float) -> Decision:
    """Cancel the run for its producer or an operator."""
    return _finish(run, State.CANCELLED, Outcome(error=RunError("cancelled", "cancelled on request")), policy, now)


def observe_execution(
    tracked: TrackedRun, response: responses.StatusResponse, policy: CrewPolicy, asked_at: float
) -> tuple[TrackedRun, bool]:
    """Update a tracked run from a poll, without human input; return whether the change must be stored, as well.

    `asked_at` is when the poll was sent; a deadline that passed while the response was on its way does not count.
    """
    observed = _updated(tracked, response, policy, asked_at)
    ended = isinstance(response, responses.Succeeded | responses.Failed)
    first_seen = tracked.started_at is None and observed.started_at is not None
    return observed, (
        ended or first_seen or tracked.deferred or observed.progress != tracked.progress
        or _lost(observed, response, policy, asked_at) or _overdue(observed, response, asked_at)
        or observed.unverified != tracked.unverified
    )  # fmt: skip


def apply_execution_status(
    run: Run, observed: TrackedRun, response: responses.StatusResponse, policy: CrewPolicy, asked_at: float
) -> Decision:
    """Apply a change that `observe_execution` reported, without human input; see `rules.apply_status`."""
    polls = max(observed.polls, run.polls + 1)  # another poll may have been stored since `observed` was refreshed
    lost, overdue = _lost(observed, response, policy, asked_at), _overdue(observed, response, asked_at)
    run = replace(clear_deferral(run), polls=polls, started_at=observed.started_at, unverified=observed.unverified)
    match response:
        case responses.Succeeded(result, result_json, usage, progress):
            ended = replace(run, progress=progress or run.progress)
            return _finish(ended, State.SUCCEEDED, Outcome(result, result_json, usage), policy, asked_at)
        case responses.Failed(message):
            return _finish(run, State.FAILED, Outcome(error=RunError("execution_failed", message)), policy, asked_at)
        case _ if observed.unverified and (lost or overdue):
            return _to_doubt_again(run, policy, asked_at)
        case _ if lost:
            error = RunError("lost", "the crew API no longer knows the execution")
            return _finish(run, State.FAILED, Outcome(error=error), policy, asked_at)
        case _ if overdue:
            error = RunError("deadline_exceeded", f"not ended {observed.deadline:g} s after it was first seen started")
            return _finish(run, State.TIMED_OUT, Outcome(error=error), policy, asked_at)
        case responses.Running(progress) if _is_new(progress_key(progress), observed, run):
            return _with_extra_event(replace(run, progress=progress), "progress", policy, asked_at, polls)
        case _:
            return Decision(run)


def tracked_from_run(run: Run, policy: CrewPolicy, now: float) -> TrackedRun:
    """Return what memory must hold to track a running run."""
    assert run.kickoff_id is not None
    deadline = policy.deadline if run.request.deadline is None else run.request.deadline
    deadline += run.human_input.deadline_extension
    return TrackedRun(
        run_id=run.run_id,
        crew=run.crew,
        kickoff_id=run.kickoff_id,
        deadline=deadline,
        alive_at=now,
        started_at=run.started_at,
        polls=run.polls,
        tasks_done=tasks_done(progress_key(run.progress)),
        began_at=run.sent_at,
        seen_at=run.sent_at if run.started_at is None else None,
        progress=progress_key(run.progress),
        seen_alive=run.started_at is not None,
        waiting=run.state is State.WAITING_FOR_HUMAN,
        unverified=run.unverified,
        deferred=is_poll_deferred(run),
        human_input=run.human_input,
    )


def move(run: Run, state: State, **changes: Any) -> Run:
    """Return the run in another state; raises `IllegalTransition` if `TRANSITIONS` does not permit it."""
    if state not in TRANSITIONS[run.state]:
        raise IllegalTransition(f"run {run.run_id}: {run.state} -> {state}")
    return replace(run, state=state, **{"deferral": None} | changes)


def clear_deferral(run: Run) -> Run:
    """Return a run whose polling resumes: without its deferral, if it has one."""
    return replace(run, due_at=None, deferral=None) if is_poll_deferred(run) else run


def is_poll_deferred(run: Run) -> bool:
    """Return whether polling of the run is deferred; a run with an answer to submit is due for that instead."""
    question = run.human_input.question
    return run.deferral is not None and (question is None or question.stage is not QuestionStage.ACCEPTED)


def progress_key(progress: Any) -> Progress | None:
    """Return the part of a progress whose change counts; None where the API reports none."""
    if not isinstance(progress, dict):
        return None
    current, count = progress.get("current"), progress.get("completed")
    completed = None if isinstance(count, str) else read_number(count)
    completed = completed if isinstance(completed, int) and completed >= 0 else None
    current = current if isinstance(current, str) else None
    return None if completed is None and current is None else (completed, progress.get("total"), current)


def tasks_done(progress: Progress | None) -> int | None:
    """Return how many tasks are done; None where the API does not report it."""
    return progress[0] if progress is not None and isinstance(progress[0], int) else None


def _not_started(run: Run, due_at: float) -> Run:
    """Return the run to `accepted`, where any process can claim it; the caller has proof that nothing was started."""
    return move(run, State.ACCEPTED, due_at=due_at, owner=None, sent_at=None)


def _into_doubt(run: Run, policy: CrewPolicy, now: float) -> Decision:
    if run.state is not State.STARTING:
        raise IllegalTransition(f"run {run.run_id}: no POST is in progress, the run is {run.state}")
    return Decision(move(run, State.IN_DOUBT, due_at=timing.evidence_due_at(policy, now), owner=None))


def _to_doubt_again(run: Run, policy: CrewPolicy, now: float) -> Decision:
    """Hold the run whose execution, named by an operator, the API has never known, so that the id can be corrected."""
    question = run.human_input.question and replace(run.human_input.question, stage=QuestionStage.CONFIRMED)
    doubted = move(
        run, State.IN_DOUBT, kickoff_id=None, unverified=False, started_at=None, progress=None, due_at=None, owner=None,
        in_doubt_emitted=run.attempt, human_input=replace(run.human_input, question=question),
    )  # fmt: skip
    if run.in_doubt_emitted == run.attempt:
        return Decision(doubted)
    return cloudevents.with_event(doubted, cloudevents.IN_DOUBT, policy, now, sequence=run.attempt)


def _finish(run: Run, state: State, outcome: Outcome, policy: CrewPolicy, now: float) -> Decision:
    may_still_end = state in {State.TIMED_OUT, State.CANCELLED} and run.kickoff_id is not None
    late_poll_at = now if may_still_end else None
    ended = move(run, state, outcome=outcome, finished_at=now, due_at=late_poll_at, owner=None)
    return cloudevents.with_event(ended, f"run.{state}", policy, now)


def _with_extra_event(run: Run, kind: str, policy: CrewPolicy, now: float, sequence: int = 1) -> Decision:
    enabled = kind in policy.extra_events
    return cloudevents.with_event(run, f"run.{kind}", policy, now, sequence) if enabled else Decision(run)


def _updated(
    tracked: TrackedRun, response: responses.StatusResponse, policy: CrewPolicy, asked_at: float
) -> TrackedRun:
    """Return the tracked run after this response."""
    polls = tracked.polls + 1
    match response:
        case responses.NoResponse():
            return replace(tracked, polls=polls, errors=tracked.errors + 1)
        case responses.CrewUnavailable():
            return replace(tracked, polls=polls, errors=0)
        case responses.NotFound():
            started_at = tracked.started_at or (asked_at if policy.human_input else None)
            return replace(tracked, polls=polls, errors=0, missing=tracked.missing + 1, started_at=started_at)
        case responses.Pending():
            return replace(
                tracked, polls=polls, errors=0, missing=0, alive_at=asked_at, began_at=asked_at, seen_at=asked_at,
                unverified=False,
            )  # fmt: skip
        case responses.WaitingForHuman():
            # time spent on human input says nothing about the crew's run times
            return replace(_alive(tracked, asked_at), began_at=None)
        case responses.Running(progress):
            alive = _with_tasks(_alive(tracked, asked_at), tracked.seen_at, progress_key(progress), asked_at)
            return _with_progress(alive, progress_key(progress), asked_at)
        case responses.Unknown():
            return replace(_alive(tracked, asked_at), unverified=tracked.unverified)
        case _:
            return _alive(tracked, asked_at)


def _with_progress(tracked: TrackedRun, progress: Progress | None, asked_at: float) -> TrackedRun:
    """Record new progress; progress that follows the last too soon is left to the next poll."""
    if progress in (None, tracked.progress) or asked_at - tracked.progress_at < MIN_PROGRESS_INTERVAL:
        return tracked
    return replace(tracked, progress=progress, progress_at=asked_at)


def _is_new(progress: Progress | None, seen: TrackedRun, run: Run) -> bool:
    """Return whether the status reports progress that must be stored and is not stored yet."""
    return progress is not None and seen.progress == progress != progress_key(run.progress)


def _alive(tracked: TrackedRun, now: float) -> TrackedRun:
    """Record that the execution exists and is no longer queued; the deadline counts from the first such poll."""
    return replace(
        tracked,
        polls=tracked.polls + 1,
        errors=0,
        missing=0,
        alive_at=now,
        seen_at=now,
        seen_alive=True,
        unverified=False,
        started_at=tracked.started_at or now,
    )


def _with_tasks(tracked: TrackedRun, seen_before: float | None, progress: Progress | None, now: float) -> TrackedRun:
    """Record when a new number of tasks was done: between the previous poll and now, so halfway is the best guess."""
    done = tasks_done(progress)
    if done is None or done == tracked.tasks_done:
        return tracked
    since = now if seen_before is None else (seen_before + now) / 2
    task_marks = (*tracked.task_marks, (done, since)) if done > 0 else tracked.task_marks
    return replace(tracked, tasks_done=done, task_marks=task_marks)


def _lost(observed: TrackedRun, response: responses.StatusResponse, policy: CrewPolicy, now: float) -> bool:
    """Return whether the execution is lost; where NOT FOUND can mean a waiting human, only the deadline decides."""
    may_wait = policy.human_input or observed.human_input.question is not None
    if may_wait or not isinstance(response, responses.NotFound):
        return False
    return long_missing(observed, now)


def long_missing(observed: TrackedRun, now: float) -> bool:
    """Return whether the execution has been missing for so long that it may be lost."""
    return observed.missing >= LOST_POLLS and now - observed.alive_at >= LOST_AFTER


def _overdue(observed: TrackedRun, response: responses.StatusResponse, asked_at: float) -> bool:
    """Return whether a poll made after the deadline reports an execution that has not ended; errors do not count."""
    passed = observed.deadline_at is not None and asked_at >= observed.deadline_at
    return passed and not isinstance(response, responses.NoResponse | responses.CrewUnavailable)
