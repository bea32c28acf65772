"""The state machine of a run: every transition, except those of questions, which `core.human_input.rules` makes.

Rules:

1. A run moves only along an entry of `TRANSITIONS`; anything else raises `IllegalTransition` and changes nothing.
2. A final state never changes. It is reached together with the run's one final event, in one `Decision`.
3. A run returns from `starting` or `in_doubt` to `accepted` only with proof that nothing was started, or by an
   explicit policy or operator. A paid execution is never started twice by mistake. The policy repeats a POST at most
   once per run; evidence that arrives before the repeated POST is sent (`accepted` -> `running`) makes it unnecessary.
4. A run returns to `in_doubt` only from an execution that an operator or an uncertain webhook named, and that the API
   has never known.
5. Time is an argument. A clock alone never ends a run that may have an execution: only a poll made after the deadline
   does. A run of which no POST can have left expires by the clock.

Functions are named for what happened (`on_kickoff`, `on_cancelled` …) and return what is to be stored next.
"""

from typing import Any, assert_never

from bridge.core.crew import responses
from bridge.core.crew_policy import CrewPolicy, DoubtPolicy
from bridge.core.delivery import events
from bridge.core.errors import IllegalTransition
from bridge.core.human_input.model import QuestionStage
from bridge.core.runs import history, timing
from bridge.core.runs.model import Decision, Envelope, KickoffRequest, Outcome, Run, RunError, State
from bridge.core.runs.request import fingerprint
from bridge.core.values import replace

_EVENT_SPACING = 0.002  # seconds; events are ordered by their times, which have millisecond resolution

TRANSITIONS: dict[State, frozenset[State]] = {
    State.ACCEPTED: frozenset({State.STARTING, State.RUNNING, State.FAILED, State.CANCELLED}),
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

MAX_AUTO_RETRIES = 1  # POSTs per run that `in_doubt: retry` repeats


def accept(request: KickoffRequest, envelope: Envelope, run_id: str, now: float, start_by: float | None = None) -> Run:
    """Return a new run for a request that passed every check; `start_by`: the crew's, if the request has none."""
    start_by = start_by if request.start_by is None else request.start_by
    return Run(
        run_id=run_id,
        request=request,
        envelope=envelope,
        fingerprint=fingerprint(request),
        state=State.ACCEPTED,
        accepted_at=now,
        due_at=now,
        expires_at=None if start_by is None else now + start_by,
        history=history.added((), "accepted", now, by=envelope.source, retry_of=request.retry_of),
    )


def begin(run: Run, now: float) -> Run:
    """Mark the POST as about to be sent; store this before its first byte is sent. `undo_begin` keeps the deferral."""
    attempt = run.attempt + 1
    posted = history.added(run.history, "posted", now, attempt=attempt)
    return transition(
        run, State.STARTING, attempt=attempt, sent_at=now, due_at=None, deferral=run.deferral, history=posted
    )


def undo_begin(run: Run) -> Run:
    """Return a `starting` run to `accepted` without counting the attempt; the caller knows that no byte was sent."""
    assert run.sent_at is not None
    accepted = _not_started(run, run.sent_at)
    return replace(accepted, attempt=run.attempt - 1, deferral=run.deferral, history=run.history[:-1])


def on_kickoff(run: Run, response: responses.KickoffResponse, policy: CrewPolicy, now: float) -> Decision:
    """Apply the response to a kickoff, or the failure to send it."""
    reason = responses.failure_reason(response)
    match response:
        case responses.Started(kickoff_id):
            answered = history.added(run.history, "answered", now)
            running = transition(_require_post(run), State.RUNNING, kickoff_id=kickoff_id, history=answered)
            return with_optional_event(running, "started", policy, now)
        case responses.Refused(message):
            unspent = history.record(replace(run, sent_at=None), "refused", now, reason=reason)
            return finish(unspent, State.FAILED, Outcome(error=RunError("refused", message)), policy, now)
        case responses.NotStarted(_, after):
            due_at = timing.next_kickoff_at(run.run_id, run.attempt, now, after)
            return Decision(_not_started(history.record(run, "deferred", now, reason=reason), due_at))
        case responses.CrewUnavailable():
            due_at = timing.unavailable_retry_at(run.attempt, now)
            return Decision(_not_started(history.record(run, "deferred", now, reason=reason), due_at))
        case responses.InDoubt():
            return on_interrupted_kickoff(run, policy, now, reason)
        case _:
            assert_never(response)


def on_interrupted_kickoff(
    run: Run, policy: CrewPolicy, now: float, why: str | None = "the process ended during the POST"
) -> Decision:
    """Put a run in doubt, until evidence arrives or is overdue: it is unknown whether its POST was sent."""
    due_at = now + policy.in_doubt_after
    doubted = transition(_require_post(run), State.IN_DOUBT, due_at=due_at, owner=None)
    return Decision(history.record(doubted, "in_doubt", now, reason=why))


def on_evidence_overdue(run: Run, policy: CrewPolicy, now: float) -> Decision:
    """Emit `run.in_doubt` and apply the crew's policy, because evidence is overdue. A held run is not due again.

    A run that is in doubt again after its automatic retry is held, however often operators have retried it.
    """
    doubted = events.with_event(run, events.IN_DOUBT, policy, now - _EVENT_SPACING, sequence=run.attempt)
    run = replace(run, in_doubt_emitted=run.attempt)
    run = history.record(run, "evidence_overdue", now, policy=policy.in_doubt.value)
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
    """Return a run in doubt to `accepted`, to be started again by its crew's policy or an operator.

    It no longer expires, because its earlier POST may have started an execution.
    """
    return transition(run, State.ACCEPTED, due_at=now, owner=None, expires_at=None)


def on_start_by_passed(run: Run, policy: CrewPolicy, now: float) -> Decision | None:
    """End a run that was not started in time; return None if it need not, or can no longer, expire."""
    if run.state is not State.ACCEPTED or run.expires_at is None or now < run.expires_at:
        return None
    why = "the run was not started by start_by; nothing was sent to the crew"
    return finish(run, State.FAILED, Outcome(error=RunError("expired", why)), policy, now)


def on_abandoned(run: Run, why: str, policy: CrewPolicy, now: float) -> Decision:
    """End a run in doubt as failed."""
    return finish(run, State.FAILED, Outcome(error=RunError("abandoned", why)), policy, now)


def on_evidence(
    run: Run, kickoff_id: str, policy: CrewPolicy, now: float, *, attempt: int | None = None
) -> Decision | None:
    """Reconcile a run with the execution that one of its attempts has started; None: the run needs no such evidence.

    A run in doubt, or one that waits for its POST to be repeated, continues as if the POST had been answered. It has
    no owner, so that the recover step tracks it. A run that ended without an execution keeps its state; its execution
    is to be stopped and polled.

    Each attempt is stored before its POST, so one that is not stored was made after the backup that the store is.
    """
    if attempt is not None and attempt > run.attempt:
        run = as_posted(run, attempt, now)
    if run.state is State.IN_DOUBT or (run.state is State.ACCEPTED and run.attempt):
        running = transition(run, State.RUNNING, kickoff_id=kickoff_id, due_at=None, owner=None)
        running = history.record(running, "execution_found", now, kickoff_id=kickoff_id)
        return with_optional_event(running, "started", policy, now, run.polls + 1)
    if run.final and run.kickoff_id is None:
        found = replace(run, kickoff_id=kickoff_id, due_at=run.finished_at, owner=None)
        return Decision(history.record(found, "execution_found", now, kickoff_id=kickoff_id))
    return None


def as_posted(run: Run, attempt: int, now: float) -> Run:
    """Return a run of a restored store with an attempt that was made after the backup."""
    return replace(run, attempt=attempt, sent_at=now)


def on_late_response(
    run: Run, attempt: int, response: responses.KickoffResponse, policy: CrewPolicy, now: float
) -> Decision | None:
    """Reconcile a run with a response that arrived after this process had lost the run to another one.

    If the other one has not put it in doubt yet, the response counts as if it had come in time.
    """
    if run.state is State.STARTING and run.attempt == attempt:
        return on_kickoff(replace(run, owner=None), response, policy, now)
    if isinstance(response, responses.Started):
        return on_evidence(run, response.kickoff_id, policy, now, attempt=attempt)
    if run.state is not State.IN_DOUBT or run.attempt != attempt or isinstance(response, responses.InDoubt):
        return None
    return on_kickoff(run, response, policy, now)


def on_cancelled(run: Run, policy: CrewPolicy, now: float) -> Decision:
    """Cancel the run for its producer or an operator."""
    return finish(run, State.CANCELLED, Outcome(error=RunError("cancelled", "cancelled on request")), policy, now)


def transition(run: Run, state: State, **changes: Any) -> Run:
    """Return the run in another state; raises `IllegalTransition` if `TRANSITIONS` does not permit it."""
    if state not in TRANSITIONS[run.state]:
        raise IllegalTransition(f"run {run.run_id}: {run.state} -> {state}")
    return replace(run, state=state, **{"deferral": None} | changes)


def clear_deferral(run: Run) -> Run:
    """Return a run whose polling resumes: without its deferral, if it has one."""
    return replace(run, due_at=None, deferral=None) if is_poll_deferred(run) else run


def is_poll_deferred(run: Run) -> bool:
    """Return whether polling of the run is deferred; a run with an answer to submit is due for that instead."""
    return run.deferral is not None and run.human_input.stage is not QuestionStage.ACCEPTED


def _not_started(run: Run, due_at: float) -> Run:
    """Return the run to `accepted`, where any process can claim it; the caller has proof that nothing was started."""
    return transition(run, State.ACCEPTED, due_at=due_at, owner=None, sent_at=None)


def _require_post(run: Run) -> Run:
    if run.state is not State.STARTING:
        raise IllegalTransition(f"run {run.run_id}: no POST is in progress, the run is {run.state}")
    return run


def on_never_known(run: Run, policy: CrewPolicy, now: float) -> Decision:
    """Hold a run whose unverified execution id the API has never known, so that the id can be corrected."""
    doubted = transition(
        run, State.IN_DOUBT, kickoff_id=None, unverified=False, started_at=None, progress=None, due_at=None, owner=None,
        in_doubt_emitted=run.attempt, human_input=run.human_input.with_question(stage=QuestionStage.CONFIRMED),
    )  # fmt: skip
    doubted = history.record(doubted, "in_doubt", now, reason="the crew API has never known the execution")
    if run.in_doubt_emitted == run.attempt:
        return Decision(doubted)
    return events.with_event(doubted, events.IN_DOUBT, policy, now, sequence=run.attempt)


def result_too_large(policy: CrewPolicy) -> RunError:
    """Return the error of an execution that succeeded, but whose result the bridge does not read."""
    detail = f"the execution succeeded, but its status exceeds max_response of the crew, {policy.max_response} bytes"
    return RunError("result_too_large", detail)


def finish(run: Run, state: State, outcome: Outcome, policy: CrewPolicy, now: float) -> Decision:
    """End the run with its one final event; an execution that may continue is polled for a late result."""
    may_still_end = state in {State.TIMED_OUT, State.CANCELLED} and run.kickoff_id is not None
    late_poll_at = now if may_still_end else None
    code = None if outcome.error is None else outcome.error.code
    ended = transition(
        run, state, outcome=outcome, finished_at=now, due_at=late_poll_at, owner=None,
        history=history.added(run.history, "ended", now, state=state.value, error=code),
    )  # fmt: skip
    return events.with_event(ended, f"run.{state}", policy, now)


def with_optional_event(run: Run, kind: str, policy: CrewPolicy, now: float, sequence: int = 1) -> Decision:
    """Emit an event of this kind if the crew's settings ask for it."""
    enabled = kind in policy.optional_events
    return events.with_event(run, f"run.{kind}", policy, now, sequence) if enabled else Decision(run)
