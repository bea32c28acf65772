"""The state machine of a run: every arrow, and every move but those around a question, which `core.humans` makes.

Rules:

1. A run moves only along an arrow of `TRANSITIONS`; anything else raises `IllegalTransition` and moves nothing.
2. A final state never changes. It is reached together with the run's one final event, in one `Decision`.
3. No arrow leads from `starting` or `in_doubt` back to `accepted` without proof that nothing was started, or an
   explicit policy or operator. A paid execution is never started twice by mistake. The policy repeats a POST at most
   once per run; evidence that comes before the repeated POST leaves (`accepted` -> `running`) makes it unnecessary.
4. A run returns to `in_doubt` only from an execution that an operator named and that the API has never known.
5. Time comes in as an argument. A clock alone never ends a run: only a look made after the deadline does.

The functions are named for what happened (`on_kickoff`, `on_cancelled` …) and give back what the store must hold next.
"""

from dataclasses import replace
from typing import Any, assert_never

from bridge.core.crew import responses
from bridge.core.delivery import cloudevents
from bridge.core.errors import IllegalTransition
from bridge.core.human_input.model import QuestionStage
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
from bridge.core.runs.progress import progress_key, tasks_done
from bridge.core.runs.request import fingerprint

_MOMENT = 0.002  # seconds; events are listed by their times, which are told in milliseconds

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

LOST_POLLS = 5  # looks in a row that must not find the execution,
LOST_AFTER = 60.0  # and seconds since it was last known to exist, before it counts as lost
PROGRESS_EVERY = 1.0  # seconds between two events of progress about one run, at least


MAX_AUTO_RETRIES = 1  # POSTs per run that `in_doubt: retry` repeats

MAY_STILL_END = frozenset({State.TIMED_OUT, State.CANCELLED, State.FAILED})
"""Final states whose execution may go on, and end, after all; a failed run's only if evidence of it came later."""


def accept(request: KickoffRequest, envelope: Envelope, run_id: str, now: float) -> Run:
    """A new run for a request that passed every check."""
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
    """The POST is about to leave; to be stored before its first byte does."""
    return Decision(move(run, State.STARTING, attempt=run.attempt + 1, sent_at=now, due_at=None))


def on_kickoff(run: Run, answer: responses.KickoffResponse, policy: CrewPolicy, now: float) -> Decision:
    """The kickoff was answered, or could not be sent."""
    match answer:
        case responses.Started(kickoff_id):
            running = move(run, State.RUNNING, kickoff_id=kickoff_id)
            return _with_extra_event(running, "started", policy, now)
        case responses.Refused(message):
            unspent = replace(run, sent_at=None)
            return _finish(unspent, State.FAILED, Outcome(error=RunError("refused", message)), policy, now)
        case responses.NotStarted(_, after):
            return Decision(_not_started(run, timing.kickoff_again(run.run_id, run.attempt, now, after)))
        case responses.CrewUnavailable():
            return Decision(_not_started(run, timing.after_unavailable(run.attempt, now)))
        case responses.InDoubt():
            return _into_doubt(run, policy, now)
        case _:
            assert_never(answer)


def on_interrupted_kickoff(run: Run, policy: CrewPolicy, now: float) -> Decision:
    """A process died between `starting` and the answer: whether the POST left is not known."""
    return _into_doubt(run, policy, now)


def on_evidence_overdue(run: Run, policy: CrewPolicy, now: float) -> Decision:
    """No evidence came in time: say so and do what the crew's policy wants. A run that is held is due no more.

    A run that is in doubt again after its automatic retry is held, however often operators have retried it.
    """
    told = cloudevents.with_event(run, cloudevents.IN_DOUBT, policy, now - _MOMENT, sequence=run.attempt)
    run = replace(run, in_doubt_emitted=run.attempt)
    match policy.in_doubt:
        case DoubtPolicy.RETRY if run.auto_retries < MAX_AUTO_RETRIES:
            return replace(told, run=requeue(replace(run, auto_retries=run.auto_retries + 1), now))
        case DoubtPolicy.HOLD | DoubtPolicy.RETRY:
            return replace(told, run=replace(run, due_at=None, owner=None, deferral=None))
        case DoubtPolicy.FAIL:
            why = "whether the execution was started could not be found out"
            return on_abandoned(run, why, policy, now).after(told)
        case _:
            assert_never(policy.in_doubt)


def requeue(run: Run, now: float) -> Run:
    """A run in doubt is to be started once more: by its crew's policy, or by an operator."""
    return move(run, State.ACCEPTED, due_at=now, owner=None)


def on_abandoned(run: Run, why: str, policy: CrewPolicy, now: float) -> Decision:
    """A run in doubt is given up."""
    return _finish(run, State.FAILED, Outcome(error=RunError("abandoned", why)), policy, now)


def on_evidence(
    run: Run, kickoff_id: str, policy: CrewPolicy, now: float, *, attempt: int | None = None
) -> Decision | None:
    """Reconcile a run with the execution that one of its attempts has started; None: the run needs no such evidence.

    A run in doubt, or one that waits for its POST to be repeated, continues as if the POST had been answered. It has
    no owner, so that the recover step tracks it. A run that has ended without an execution keeps its state; its
    execution is to be stopped and watched.
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
    run: Run, attempt: int, answer: responses.KickoffResponse, policy: CrewPolicy, now: float
) -> Decision | None:
    """Reconcile a run with the answer to an attempt that came after another process had taken over the run."""
    if isinstance(answer, responses.Started):
        return on_evidence(run, answer.kickoff_id, policy, now, attempt=attempt)
    if run.state is not State.IN_DOUBT or run.attempt != attempt or isinstance(answer, responses.InDoubt):
        return None
    return on_kickoff(run, answer, policy, now)


def on_cancelled(run: Run, policy: CrewPolicy, now: float) -> Decision:
    """The producer or an operator wants no more of it."""
    return _finish(run, State.CANCELLED, Outcome(error=RunError("cancelled", "cancelled on request")), policy, now)


def should_be_stopped(run: Run) -> bool:
    """Whether to ask the API to stop the execution of a run that was cancelled or given up, before the first poll."""
    return run.state in {State.CANCELLED, State.FAILED} and run.due_at == run.finished_at


def on_late_poll(run: Run, answer: responses.StatusResponse, policy: CrewPolicy, now: float) -> Decision:
    """A run that was given up on is looked at once more: tell if its execution has ended after all, once."""
    match answer:
        case responses.Succeeded(result, result_json, usage, _):
            late = Outcome(result, result_json, usage)
        case responses.Failed(message):
            late = Outcome(error=RunError("execution_failed", message))
        case _:
            return Decision(replace(run, owner=None, due_at=timing.next_late_poll_at(run, now)))
    told = cloudevents.with_event(replace(run, outcome=late), cloudevents.LATE_RESULT, policy, now)
    return replace(told, run=replace(run, owner=None, due_at=None))


def observe_execution(
    tracked: TrackedRun, answer: responses.StatusResponse, policy: CrewPolicy, asked_at: float
) -> tuple[TrackedRun, bool]:
    """What a look at the status taught, and whether it is news that the store must hear of; the part without humans.

    `asked_at` is when the look was made; a deadline that passed while the answer was under way does not count.
    """
    seen = _remember(tracked, answer, policy, asked_at)
    ended = isinstance(answer, responses.Succeeded | responses.Failed)
    first_seen = tracked.started_at is None and seen.started_at is not None
    return seen, (
        ended or first_seen or tracked.deferred or seen.progress != tracked.progress
        or _lost(seen, answer, policy, asked_at) or _overdue(seen, answer, asked_at)
        or seen.unverified != tracked.unverified
    )  # fmt: skip


def apply_execution_status(
    run: Run, seen: TrackedRun, answer: responses.StatusResponse, policy: CrewPolicy, asked_at: float
) -> Decision:
    """Write down what `observe_execution` found worth it; `humans.on_status` is the whole."""
    polls = max(seen.polls, run.polls + 1)  # another poll may have been stored since `seen` was last refreshed
    run = replace(clear_deferral(run), polls=polls, started_at=seen.started_at, unverified=seen.unverified)
    match answer:
        case responses.Succeeded(result, result_json, usage, progress):
            ended = replace(run, progress=progress or run.progress)
            return _finish(ended, State.SUCCEEDED, Outcome(result, result_json, usage), policy, asked_at)
        case responses.Failed(message):
            return _finish(run, State.FAILED, Outcome(error=RunError("execution_failed", message)), policy, asked_at)
        case _ if seen.unverified and (_lost(seen, answer, policy, asked_at) or _overdue(seen, answer, asked_at)):
            return _to_doubt_again(run, policy, asked_at)
        case _ if _lost(seen, answer, policy, asked_at):
            error = RunError("lost", "the crew API no longer knows the execution")
            return _finish(run, State.FAILED, Outcome(error=error), policy, asked_at)
        case _ if _overdue(seen, answer, asked_at):
            error = RunError("deadline_exceeded", f"not over {seen.deadline:g} s after it was first seen started")
            return _finish(run, State.TIMED_OUT, Outcome(error=error), policy, asked_at)
        case responses.Running(progress) if _is_new(progress_key(progress), seen, run):
            return _with_extra_event(replace(run, progress=progress), "progress", policy, asked_at, polls)
        case _:
            return Decision(run)


def tracked_from_run(run: Run, policy: CrewPolicy, now: float) -> TrackedRun:
    """What must be kept in memory to follow a running run."""
    assert run.kickoff_id is not None
    deadline = policy.deadline if run.request.deadline is None else run.request.deadline
    deadline += run.human_input.paused_seconds
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
    """The run in another state, if an arrow leads there; raises `IllegalTransition`."""
    if state not in TRANSITIONS[run.state]:
        raise IllegalTransition(f"run {run.run_id}: {run.state} -> {state}")
    return replace(run, state=state, **{"deferral": None} | changes)


def clear_deferral(run: Run) -> Run:
    """Return a run whose status is polled again: one that was deferred is due no more by that."""
    return replace(run, due_at=None, deferral=None) if is_poll_deferred(run) else run


def is_poll_deferred(run: Run) -> bool:
    """Whether the run was deferred; one with an answer to carry stays due for that instead."""
    question = run.human_input.question
    return run.deferral is not None and (question is None or question.stage is not QuestionStage.ACCEPTED)


def _not_started(run: Run, due_at: float) -> Run:
    """Back to where any process may claim it; the caller has proof that nothing was started."""
    return move(run, State.ACCEPTED, due_at=due_at, owner=None, sent_at=None)


def _into_doubt(run: Run, policy: CrewPolicy, now: float) -> Decision:
    if run.state is not State.STARTING:
        raise IllegalTransition(f"run {run.run_id}: no POST is under way, the run is {run.state}")
    return Decision(move(run, State.IN_DOUBT, due_at=timing.evidence_due_at(policy, now), owner=None))


def _to_doubt_again(run: Run, policy: CrewPolicy, now: float) -> Decision:
    """The API has never known the execution that an operator named: hold the run, so that the id can be corrected."""
    question = run.human_input.question and replace(run.human_input.question, stage=QuestionStage.CONFIRMED)
    doubted = move(
        run, State.IN_DOUBT, kickoff_id=None, unverified=False, started_at=None, progress=None, due_at=None, owner=None,
        in_doubt_emitted=run.attempt, human_input=replace(run.human_input, question=question),
    )  # fmt: skip
    if run.in_doubt_emitted == run.attempt:
        return Decision(doubted)
    return cloudevents.with_event(doubted, cloudevents.IN_DOUBT, policy, now, sequence=run.attempt)


def _finish(run: Run, state: State, outcome: Outcome, policy: CrewPolicy, now: float) -> Decision:
    goes_on = state in {State.TIMED_OUT, State.CANCELLED} and run.kickoff_id is not None
    late = now if goes_on else None
    ended = move(run, state, outcome=outcome, finished_at=now, due_at=late, owner=None)
    return cloudevents.with_event(ended, f"run.{state}", policy, now)


def _with_extra_event(run: Run, kind: str, policy: CrewPolicy, now: float, sequence: int = 1) -> Decision:
    wanted = kind in policy.extra_events
    return cloudevents.with_event(run, f"run.{kind}", policy, now, sequence) if wanted else Decision(run)


def _remember(tracked: TrackedRun, answer: responses.StatusResponse, policy: CrewPolicy, asked_at: float) -> TrackedRun:
    """The watch after this answer."""
    polls = tracked.polls + 1
    match answer:
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
            return replace(_alive(tracked, asked_at), began_at=None)  # a human's time says nothing about the crew's
        case responses.Running(progress):
            alive = _with_tasks(_alive(tracked, asked_at), tracked.seen_at, progress_key(progress), asked_at)
            return _with_progress(alive, progress_key(progress), asked_at)
        case responses.Unknown():
            return replace(_alive(tracked, asked_at), unverified=tracked.unverified)
        case _:
            return _alive(tracked, asked_at)


def _with_progress(tracked: TrackedRun, progress: Progress | None, asked_at: float) -> TrackedRun:
    """News of progress that comes too soon after the last is left for the next look to find."""
    if progress in (None, tracked.progress) or asked_at - tracked.progress_at < PROGRESS_EVERY:
        return tracked
    return replace(tracked, progress=progress, progress_at=asked_at)


def _is_new(progress: Progress | None, seen: TrackedRun, run: Run) -> bool:
    """Whether the status reports progress that is due to be stored and is not stored yet."""
    return progress is not None and seen.progress == progress != progress_key(run.progress)


def _alive(tracked: TrackedRun, now: float) -> TrackedRun:
    """The execution exists and is not queued any more; the deadline counts from the first time this was seen."""
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
    """A new number of tasks done was reached somewhere between the look before and now; halfway is the best guess."""
    done = tasks_done(progress)
    if done is None or done == tracked.tasks_done:
        return tracked
    since = now if seen_before is None else (seen_before + now) / 2
    task_marks = (*tracked.task_marks, (done, since)) if done > 0 else tracked.task_marks
    return replace(tracked, tasks_done=done, task_marks=task_marks)


def _lost(seen: TrackedRun, answer: responses.StatusResponse, policy: CrewPolicy, now: float) -> bool:
    """Five looks and a minute without a trace; where NOT FOUND may mean a waiting human, only the deadline decides."""
    may_wait = policy.human_input or seen.human_input.question is not None
    if may_wait or not isinstance(answer, responses.NotFound):
        return False
    return long_missing(seen, now)


def long_missing(seen: TrackedRun, now: float) -> bool:
    """Whether the execution was not found for so long that it may be lost."""
    return seen.missing >= LOST_POLLS and now - seen.alive_at >= LOST_AFTER


def _overdue(seen: TrackedRun, answer: responses.StatusResponse, asked_at: float) -> bool:
    """A look made after the deadline said "not over"; no statement at all does not count."""
    passed = seen.deadline_at is not None and asked_at >= seen.deadline_at
    return passed and not isinstance(answer, responses.NoResponse | responses.CrewUnavailable)
