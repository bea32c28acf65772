"""Rules of human input: when an execution asks, how its question is answered at most once, and how it goes on.

A question has one answer and an answer has one POST: `begin_submission` is stored before its first byte leaves, and
only proof that nothing left (`NotStarted`) leads back. The next status shows whether a POST had an effect; its
response does not.

A question known from the status alone has no name and no text, and may be one that is known already.
"""

from collections.abc import Iterator
from typing import assert_never

from bridge.core.crew import responses
from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery import events
from bridge.core.errors import RequestRefused
from bridge.core.human_input import feedback
from bridge.core.human_input.feedback import APPROVED, Resume
from bridge.core.human_input.model import HumanInput, Question, QuestionContent, QuestionStage
from bridge.core.runs import history, state_machine, timing, tracking
from bridge.core.runs.changes import QuestionChange
from bridge.core.runs.model import TRACKED_STATES, Decision, Run, State, TrackedRun
from bridge.core.values import replace

MOVED_ON_AFTER = 10.0  # seconds after a question arrives, until "running" means that it was answered elsewhere
CONFIRM_WITHIN = 60.0  # seconds within which an answer must show an effect
MAX_KEPT = 100  # task ids, answers, and aliases stored per run
_AWAITING_CONFIRMATION = frozenset({QuestionStage.SENT, QuestionStage.UNCONFIRMED})


# Questions --------------------------------------------------------------------------------------------------------


def on_question(run: Run, content: QuestionContent, policy: CrewPolicy, now: float) -> Decision | None:
    """Ask the question that a webhook reported; return None if it is known. Webhooks repeat and arrive out of order."""
    if run.state not in TRACKED_STATES or (
        content.task_id is not None and content.task_id in run.human_input.known_task_ids
    ):
        return None
    question = run.human_input.question
    if question is None or question.stage is QuestionStage.CONFIRMED:
        return _ask(run, content, policy, now)
    if content.task_id is None:
        return None  # without an id, it counts as the question that is open
    if question.stage is QuestionStage.OPEN and question.content.task_id is None:
        named = replace(question, content=content)  # known so far from the status alone
        return Decision(replace(run, human_input=_with_task_id(replace(run.human_input, question=named), content)))
    return _ask(run, content, policy, now)


def on_activity(run: Run) -> Decision | None:
    """Confirm an answer, because a webhook shows that the execution works; return None if no answer awaits that."""
    if run.state is not State.RUNNING or run.human_input.stage not in _AWAITING_CONFIRMATION:
        return None
    return Decision(_confirmed(run))


# Polls ------------------------------------------------------------------------------------------------------------


def count_pauses(
    tracked: TrackedRun, response: responses.StatusResponse, policy: CrewPolicy, polled_at: float
) -> TrackedRun:
    """Count the polls in a row that found the execution waiting; polls without a statement do not count."""
    if isinstance(response, responses.NoResponse | responses.CrewUnavailable):
        return tracked
    pauses = tracked.pauses + 1 if _pausing(tracked, response, policy, polled_at) else 0
    return tracked if tracked.pauses == pauses else replace(tracked, pauses=pauses)


def question_change(
    tracked: TrackedRun, response: responses.StatusResponse, policy: CrewPolicy, polled_at: float
) -> QuestionChange | None:
    """Return what a poll reveals about the questions of a run that has not ended; `tracked` includes the poll."""
    question = tracked.human_input.question
    if question is not None and tracked.waiting:
        return _change_while_open(question, response, policy, polled_at)
    if question is not None and question.stage in _AWAITING_CONFIRMATION:
        return _change_after_answer(question, response, polled_at)
    enough = 2 if policy.questions_announced else 1
    pausing = _pausing(tracked, response, policy, polled_at) and tracked.pauses >= enough
    return QuestionChange.ASKED if pausing else None


def apply_question_change(run: Run, change: QuestionChange, policy: CrewPolicy, now: float) -> Decision:
    """Apply what a poll revealed about the questions of a run as stored."""
    match change:
        case QuestionChange.ASKED:
            return _ask(run, QuestionContent(), policy, now)
        case QuestionChange.ANSWERED_ELSEWHERE:
            human_input = _closed(run.human_input, now)
            continued = state_machine.transition(run, State.RUNNING, human_input=human_input, due_at=None)
            return Decision(_confirmed(history.record(continued, "answered_elsewhere", now)))
        case QuestionChange.ANSWER_OVERDUE:
            question = run.human_input.question
            assert question is not None
            text = feedback.feedback_text(policy.human_default, None, question.content, policy)
            answered = history.record(run, "default_answer", now, question=question.number)
            return Decision(_with_answer(answered, text, approve=text == APPROVED, now=now))
        case QuestionChange.ANSWER_CONFIRMED:
            return Decision(_confirmed(run))
        case QuestionChange.ANSWER_UNCONFIRMED:
            return _unconfirmed(run, "nothing has happened since the answer was sent", policy, now)
        case _:
            assert_never(change)


def deadlines(question: Question | None) -> Iterator[float]:
    """Yield the times at which a poll is due regardless of the interval: for an answer, and for its effect."""
    if question is not None and question.stage is QuestionStage.OPEN and question.answer_by is not None:
        yield question.answer_by
    if question is not None and question.stage is QuestionStage.SENT and question.sent_at is not None:
        yield question.sent_at + CONFIRM_WITHIN


def alias_to_poll(tracked: TrackedRun, response: responses.StatusResponse) -> str | None:
    """Return the id to poll next: after an answer, the API may know the execution by the id that it returned then."""
    return (
        tracked.human_input.aliases[-1]
        if tracked.human_input.aliases and isinstance(response, responses.NotFound)
        else None
    )


def judge_alias_status(tracked: TrackedRun, status: responses.StatusResponse) -> responses.StatusResponse:
    """Return what to make of the status of an alias.

    Aliases were observed to fail at once although the execution went on, so a failure counts only if nothing else has
    shown that the answer had an effect.
    """
    unconfirmed = tracked.human_input.stage is QuestionStage.UNCONFIRMED
    return responses.NotFound() if isinstance(status, responses.Failed) and not unconfirmed else status


# Answers ----------------------------------------------------------------------------------------------------------


def accept_answer(run: Run, command: Resume, policy: CrewPolicy, now: float) -> Decision | None:
    """Accept an answer for submission; return None if this very message was accepted before.

    Raises `RequestRefused`: `not_waiting` for a second, late, or misdirected answer, otherwise `invalid_request`.
    """
    digest = feedback.digest(command)
    if feedback.is_repeat(run.human_input.accepted_answers, command, digest):
        return None
    question = run.human_input.question
    if run.state is not State.WAITING_FOR_HUMAN or question is None or question.stage is not QuestionStage.OPEN:
        raise RequestRefused("not_waiting", f"the run is {run.state} and has no open question")
    if command.task_id and question.content.task_id and command.task_id != question.content.task_id:
        raise RequestRefused("not_waiting", "the run waits for an answer to another question", "task_id")
    if question.content.task_id is None and command.task_id in run.human_input.known_task_ids:
        raise RequestRefused("not_waiting", "this question is already answered", "task_id")
    content = replace(question.content, task_id=question.content.task_id or command.task_id)
    feedback.check_address(content, policy)
    text = feedback.feedback_text(command.feedback, command.approve, content, policy)
    accepted = (*run.human_input.accepted_answers, (command.key, digest))[-MAX_KEPT:]
    human_input = _with_task_id(replace(run.human_input, accepted_answers=accepted), content)
    named = replace(run, human_input=human_input.with_question(content=content))
    return Decision(_with_answer(named, text, approve=command.approve is True, now=now))


def begin_submission(run: Run, now: float) -> Decision:
    """Mark the answer as sent; store this before the first byte of its POST leaves."""
    question = run.human_input.question
    assert question is not None
    human_input = _closed(run.human_input, now).with_question(stage=QuestionStage.SENT, sent_at=now)
    running = state_machine.transition(run, State.RUNNING, human_input=human_input, due_at=None)
    return Decision(history.record(running, "answer_sent", now, question=question.number))


def on_submitted(run: Run, number: int, response: responses.ResumeResponse, policy: CrewPolicy, now: float) -> Decision:
    """Apply the outcome of the POST that answered question `number`; the run may have gone on in the meantime."""
    question = run.human_input.question
    assert question is not None
    awaited = run.state is State.RUNNING and question.number == number and question.stage is QuestionStage.SENT
    match response:
        case responses.Resumed(alias) if alias is not None:
            aliases = (*run.human_input.aliases, alias)[-MAX_KEPT:]
            return Decision(replace(run, human_input=replace(run.human_input, aliases=aliases)))
        case responses.Refused(why) if awaited:
            return _unconfirmed(run, why, policy, now)
        case responses.NotStarted(why, after) if awaited:
            due_at = timing.next_kickoff_at(run.run_id, 1, now, after)
            return Decision(_return_to_accepted(run, question, due_at, why, now))
        case responses.CrewUnavailable(why) if awaited:
            due_at = timing.unavailable_retry_at(1, now)
            return Decision(_return_to_accepted(run, question, due_at, why, now))
        case (
            responses.Resumed() | responses.Refused() | responses.NotStarted() | responses.CrewUnavailable()
            | responses.InDoubt()
        ):  # fmt: skip
            return Decision(run)
        case _:
            assert_never(response)


def on_corrected(run: Run, kickoff_id: str, *, verified: bool, now: float) -> Decision:
    """Replace the id of an execution that the API has never known, as an operator asks; the run loses its owner."""
    human_input = _closed(run.human_input, now) if run.state is State.WAITING_FOR_HUMAN else run.human_input
    corrected = replace(
        run, state=State.RUNNING, kickoff_id=kickoff_id, unverified=not verified, started_at=None, progress=None,
        owner=None, due_at=None, deferral=None, human_input=human_input.with_question(stage=QuestionStage.CONFIRMED),
    )  # fmt: skip
    return Decision(corrected)


def postpone_submission(run: Run, now: float) -> Decision:
    """Postpone the submission of an answer, because the crew is paused."""
    return Decision(replace(run, owner=None, due_at=timing.unavailable_retry_at(1, now), deferral=None))


def has_pending_answer(run: Run) -> bool:
    """Return whether the run is due for the submission of an answer, not because it was deferred."""
    return run.human_input.stage is QuestionStage.ACCEPTED


# Private ----------------------------------------------------------------------------------------------------------


def _change_while_open(
    question: Question, response: responses.StatusResponse, policy: CrewPolicy, polled_at: float
) -> QuestionChange | None:
    if isinstance(response, responses.Running) and polled_at >= question.asked_at + MOVED_ON_AFTER:
        return QuestionChange.ANSWERED_ELSEWHERE
    answerable = (
        question.stage is QuestionStage.OPEN
        and policy.human_default is not None
        and feedback.has_address(question.content, policy)
    )
    expired = question.answer_by is not None and polled_at >= question.answer_by
    answered = not isinstance(response, responses.NoResponse | responses.CrewUnavailable)
    return QuestionChange.ANSWER_OVERDUE if answerable and expired and answered else None


def _change_after_answer(
    question: Question, response: responses.StatusResponse, polled_at: float
) -> QuestionChange | None:
    assert question.sent_at is not None
    if isinstance(response, responses.Running | responses.Pending) and polled_at > question.sent_at:
        return QuestionChange.ANSWER_CONFIRMED
    overdue = question.stage is QuestionStage.SENT and polled_at >= question.sent_at + CONFIRM_WITHIN
    return QuestionChange.ANSWER_UNCONFIRMED if overdue else None


def _pausing(observed: TrackedRun, response: responses.StatusResponse, policy: CrewPolicy, polled_at: float) -> bool:
    """Return whether the status says that the execution waits: outright, or by a NOT FOUND that can mean it."""
    if isinstance(response, responses.WaitingForHuman):
        return True
    if not policy.human_input or not isinstance(response, responses.NotFound):
        return False
    return tracking.long_missing(observed, polled_at) or (observed.seen_alive and not policy.questions_announced)


def _ask(run: Run, content: QuestionContent, policy: CrewPolicy, now: float) -> Decision:
    """Open a new question; a question that was open until now was answered elsewhere."""
    before = run.human_input.question
    waiting = run.state is State.WAITING_FOR_HUMAN
    human_input = _closed(run.human_input, now) if waiting else run.human_input
    answer_by = None if policy.human_deadline is None else now + policy.human_deadline
    question = Question(before.number + 1 if before else 1, now, answer_by, content)
    human_input = _opened(_with_task_id(human_input, content), question, now)
    asking = replace(run, human_input=human_input, due_at=None, started_at=run.started_at or now)
    asking = asking if waiting else state_machine.transition(asking, State.WAITING_FOR_HUMAN)
    asking = history.record(asking, "question", now, question=question.number)
    return events.with_event(asking, events.WAITING_FOR_HUMAN, policy, now, sequence=question.number)


def _with_answer(run: Run, text: str, *, approve: bool, now: float) -> Run:
    """Store an answer on the run, for any process to submit."""
    human_input = run.human_input.with_question(stage=QuestionStage.ACCEPTED, feedback=text, approve=approve)
    return replace(run, human_input=human_input, owner=None, due_at=now, deferral=None)


def _return_to_accepted(run: Run, question: Question, due_at: float, why: str, now: float) -> Run:
    """Nothing was sent: any process may submit the answer again, later."""
    given = replace(question, stage=QuestionStage.ACCEPTED, sent_at=None)
    human_input = _opened(run.human_input, given, now)
    run = history.record(run, "answer_deferred", now, question=question.number, reason=responses.without_api_text(why))
    return state_machine.transition(run, State.WAITING_FOR_HUMAN, human_input=human_input, owner=None, due_at=due_at)


def _opened(human_input: HumanInput, question: Question, now: float) -> HumanInput:
    """Move the run's deadline by the time that the question allows for an answer."""
    return replace(
        human_input, question=question, deadline_extension=human_input.deadline_extension + _time_left(question, now)
    )


def _closed(human_input: HumanInput, now: float) -> HumanInput:
    """Move the run's deadline back by the time that was left for an answer."""
    assert human_input.question is not None
    return replace(
        human_input, deadline_extension=human_input.deadline_extension - _time_left(human_input.question, now)
    )


def _time_left(question: Question, now: float) -> float:
    return 0.0 if question.answer_by is None else max(0.0, question.answer_by - now)


def _confirmed(run: Run) -> Run:
    return replace(run, human_input=run.human_input.with_question(stage=QuestionStage.CONFIRMED))


def _unconfirmed(run: Run, why: str, policy: CrewPolicy, now: float) -> Decision:
    question = run.human_input.question
    assert question is not None
    human_input = run.human_input.with_question(stage=QuestionStage.UNCONFIRMED, problem=why)
    unconfirmed, reason = replace(run, human_input=human_input), responses.without_api_text(why)
    unconfirmed = history.record(unconfirmed, "answer_unconfirmed", now, question=question.number, reason=reason)
    return events.with_event(unconfirmed, events.RESUME_UNCONFIRMED, policy, now, sequence=question.number)


def _with_task_id(human_input: HumanInput, content: QuestionContent) -> HumanInput:
    if content.task_id is None:
        return human_input
    return replace(human_input, known_task_ids=(*human_input.known_task_ids, content.task_id)[-MAX_KEPT:])
