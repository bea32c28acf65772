"""Questions of executions to humans: how they are noticed, answered at most once each, and followed after that.

A question has one answer and that has one POST: `begin_submission` is stored before its first byte leaves, and only
proof that nothing left (`NotStarted`) leads back. What comes of a POST shows in what happens next, never in its
response.

Told by the status alone, a question has no name and no text, and may be one that is known already.
"""

from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import assert_never

from bridge.core.crew import responses
from bridge.core.delivery import cloudevents
from bridge.core.errors import RequestRefused
from bridge.core.human_input import feedback
from bridge.core.human_input.feedback import APPROVED, Resume
from bridge.core.human_input.model import AskedQuestion, HumanInput, Question, Stage
from bridge.core.polling import intervals
from bridge.core.runs import state_machine, timing
from bridge.core.runs.model import CrewPolicy, Decision, Run, State, TrackedRun

TRACKED_STATES = frozenset({State.RUNNING, State.WAITING_FOR_HUMAN})
MOVED_ON_AFTER = 10.0  # seconds since a question came, until "running" means that somebody else has answered it
CONFIRM_WITHIN = 60.0  # seconds for a sign that an answer had an effect
MAX_KEPT = 100  # task ids and answers of one run that are remembered


class _QuestionChange(StrEnum):
    """What a look may say about a question."""

    ASKED = "asked"
    MOVED_ON = "moved_on"
    TOO_LATE = "too_late"
    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"


# Questions --------------------------------------------------------------------------------------------------------


def on_question(run: Run, asked: AskedQuestion, policy: CrewPolicy, now: float) -> Decision | None:
    """A webhook brought a question; None: nothing that is not known. It may come twice, late and out of order."""
    if run.state not in TRACKED_STATES or (asked.task_id is not None and asked.task_id in run.human_input.known):
        return None
    question = run.human_input.question
    if question is None or question.stage is Stage.CONFIRMED:
        return _ask(run, asked, policy, now)
    if asked.task_id is None:
        return None  # it may be any, so it is the one that is known
    if question.stage is Stage.OPEN and question.asked.task_id is None:
        named = replace(question, asked=asked)  # told before, from the status
        return Decision(
            replace(
                run, human_input=replace(run.human_input, question=named, known=_kept(run.human_input.known, asked))
            )
        )
    return _ask(run, asked, policy, now)


def on_activity(run: Run) -> Decision | None:
    """A webhook shows that the execution works; None: nobody waits for such a sign."""
    question = run.human_input.question
    if run.state is not State.RUNNING or question is None or not _awaits_confirmation(question):
        return None
    return Decision(_confirmed(run))


# Looks ------------------------------------------------------------------------------------------------------------


def look(
    tracked: TrackedRun, answer: responses.StatusResponse, policy: CrewPolicy, asked_at: float
) -> tuple[TrackedRun, bool]:
    """`lifecycle.observe_execution`, with what the status says of humans."""
    seen, news = state_machine.observe_execution(tracked, answer, policy, asked_at)
    if not isinstance(answer, responses.NoResponse | responses.CrewUnavailable):
        pauses = tracked.pauses + 1 if _pausing(seen, answer, policy, asked_at) else 0
        seen = seen if seen.pauses == pauses else replace(seen, pauses=pauses)
    return seen, news or _question_change(
        seen.waiting, seen.human_input.question, seen, answer, policy, asked_at
    ) is not None


def on_status(
    run: Run, seen: TrackedRun, answer: responses.StatusResponse, policy: CrewPolicy, asked_at: float
) -> Decision:
    """`state_machine.apply_execution_status`, with what the status says of humans, unless the run ends."""
    seen = refreshed(seen, run)
    plain = state_machine.apply_execution_status(run, seen, answer, policy, asked_at)
    if plain.run.state not in TRACKED_STATES:
        return plain
    return _apply_question_change(plain.run, seen, answer, policy, asked_at).after(plain)


def refreshed(tracked: TrackedRun, run: Run) -> TrackedRun:
    """The watch, with what is written of the run; what was counted before an answer says nothing of what follows it."""
    question = run.human_input.question
    answering = question is not None and question.stage is Stage.SENT
    return replace(
        tracked,
        deadline=tracked.deadline + run.human_input.paused_seconds - tracked.human_input.paused_seconds,
        started_at=run.started_at or tracked.started_at,
        waiting=run.state is State.WAITING_FOR_HUMAN,
        deferred=state_machine.waits_for_a_poll(run),
        human_input=run.human_input,
        pauses=tracked.pauses if run.human_input == tracked.human_input else 0,
        seen_alive=tracked.seen_alive and not answering,
    )


def next_poll_at(
    tracked: TrackedRun,
    policy: CrewPolicy,
    now: float,
    pause: float,
    after: float | None = None,
    *,
    at_fallback_interval: bool = False,
) -> float:
    """`intervals.execution_poll_at`, rarely while a human thinks, and when an answer or its effect is overdue."""
    due = intervals.execution_poll_at(
        tracked, policy, now, pause, after, at_fallback_interval=at_fallback_interval or tracked.waiting
    )
    return min([due, *(moment for moment in _moments(tracked.human_input.question) if now < moment < due)])


def alias_to_poll(tracked: TrackedRun, answer: responses.StatusResponse) -> str | None:
    """The id under which to look once more: after an answer the API may know the execution by the one it gave then."""
    return (
        tracked.human_input.aliases[-1]
        if tracked.human_input.aliases and isinstance(answer, responses.NotFound)
        else None
    )


def judge_alias_status(tracked: TrackedRun, other: responses.StatusResponse) -> responses.StatusResponse:
    """What a status under another name is worth.

    Such names were seen to fail at once although the execution went on, so a failure only counts when nothing else
    has shown that the answer had an effect.
    """
    question = tracked.human_input.question
    gave_up = question is not None and question.stage is Stage.UNCONFIRMED
    return responses.NotFound() if isinstance(other, responses.Failed) and not gave_up else other


# Answers ----------------------------------------------------------------------------------------------------------


def answer(run: Run, command: Resume, policy: CrewPolicy, now: float) -> Decision | None:
    """Take an answer, to be carried; None: this very message was taken before.

    Raises `RequestRefused`: `not_waiting` for a second, late or misdirected answer, else `invalid_request`.
    """
    content = feedback.digest(command)
    if feedback.taken_before(run.human_input.taken, command, content):
        return None
    question = run.human_input.question
    if run.state is not State.WAITING_FOR_HUMAN or question is None or question.stage is not Stage.OPEN:
        raise RequestRefused("not_waiting", f"the run is {run.state} and has no question without an answer")
    if command.task_id and question.asked.task_id and command.task_id != question.asked.task_id:
        raise RequestRefused("not_waiting", "the run waits for the answer to another question", "task_id")
    if question.asked.task_id is None and command.task_id in run.human_input.known:
        raise RequestRefused("not_waiting", "this question has been answered", "task_id")
    asked = replace(question.asked, task_id=question.asked.task_id or command.task_id)
    feedback.check_address(asked, policy)
    text = feedback.feedback_text(command.feedback, command.approve, asked, policy)
    human_input = replace(
        run.human_input,
        known=_kept(run.human_input.known, asked),
        taken=(*run.human_input.taken, (command.key, content))[-MAX_KEPT:],
    )
    given = replace(question, asked=asked)
    return Decision(
        _accept_answer(replace(run, human_input=human_input), given, text, approve=command.approve is True, now=now)
    )


def begin_submission(run: Run, now: float) -> Decision:
    """The POST with the answer is about to leave; to be stored before its first byte does."""
    question = run.human_input.question
    assert question is not None
    sent = replace(question, stage=Stage.SENT, sent_at=now)
    human_input = replace(_closed(run.human_input, now), question=sent)
    return Decision(state_machine.move(run, State.RUNNING, human_input=human_input, due_at=None))


def on_submitted(run: Run, number: int, response: responses.ResumeResponse, policy: CrewPolicy, now: float) -> Decision:
    """The POST with the answer to question `number` was answered, or not; the run may have gone on meanwhile."""
    question = run.human_input.question
    assert question is not None
    current = run.state is State.RUNNING and question.number == number and question.stage is Stage.SENT
    match response:
        case responses.Resumed(alias) if alias is not None:
            return Decision(
                replace(
                    run, human_input=replace(run.human_input, aliases=(*run.human_input.aliases, alias)[-MAX_KEPT:])
                )
            )
        case responses.Refused(why) if current:
            return _unconfirmed(run, why, policy, now)
        case responses.NotStarted(_, after) if current:
            return Decision(_put_back(run, question, timing.kickoff_again(run.run_id, 1, now, after), now))
        case responses.CrewUnavailable() if current:
            return Decision(_put_back(run, question, timing.after_unavailable(1, now), now))
        case (
            responses.Resumed()
            | responses.Refused()
            | responses.NotStarted()
            | responses.CrewUnavailable()
            | responses.InDoubt()
        ):
            return Decision(run)
        case _:
            assert_never(response)


def on_corrected(run: Run, kickoff_id: str, *, verified: bool, now: float) -> Decision:
    """An operator corrects the id of an execution that the API has never known; the run has no owner after that."""
    human_input = _closed(run.human_input, now) if run.state is State.WAITING_FOR_HUMAN else run.human_input
    question = human_input.question and replace(human_input.question, stage=Stage.CONFIRMED)
    corrected = replace(
        run, state=State.RUNNING, kickoff_id=kickoff_id, unverified=not verified, started_at=None, progress=None,
        owner=None, due_at=None, deferral=None, human_input=replace(human_input, question=question),
    )  # fmt: skip
    return Decision(corrected)


def postpone_submission(run: Run, now: float) -> Decision:
    """The crew may not be called now; the answer waits."""
    return Decision(replace(run, owner=None, due_at=timing.after_unavailable(1, now), deferral=None))


def has_answer_to_carry(run: Run) -> bool:
    """Whether the run is due because of an answer, and not because it was deferred while its question is open."""
    return run.human_input.question is not None and run.human_input.question.stage is Stage.ACCEPTED


# Inside -----------------------------------------------------------------------------------------------------------


def _question_change(
    waiting: bool,  # noqa: FBT001 - of the run, or as its watch remembers it
    question: Question | None,
    seen: TrackedRun,
    answer: responses.StatusResponse,
    policy: CrewPolicy,
    asked_at: float,
) -> _QuestionChange | None:
    if question is not None and waiting:
        return _change_while_open(question, answer, policy, asked_at)
    if question is not None and _awaits_confirmation(question):
        return _change_after_answer(question, answer, asked_at)
    enough = 2 if policy.questions_announced else 1
    pausing = _pausing(seen, answer, policy, asked_at) and seen.pauses >= enough
    return _QuestionChange.ASKED if pausing else None


def _change_while_open(
    question: Question, answer: responses.StatusResponse, policy: CrewPolicy, asked_at: float
) -> _QuestionChange | None:
    if isinstance(answer, responses.Running) and asked_at >= question.asked_at + MOVED_ON_AFTER:
        return _QuestionChange.MOVED_ON
    answerable = (
        question.stage is Stage.OPEN
        and policy.human_default is not None
        and feedback.has_address(question.asked, policy)
    )
    late = question.answer_by is not None and asked_at >= question.answer_by
    concerns_tracked_run = not isinstance(answer, responses.NoResponse | responses.CrewUnavailable)
    return _QuestionChange.TOO_LATE if answerable and late and concerns_tracked_run else None


def _change_after_answer(
    question: Question, answer: responses.StatusResponse, asked_at: float
) -> _QuestionChange | None:
    assert question.sent_at is not None
    if isinstance(answer, responses.Running | responses.Pending) and asked_at > question.sent_at:
        return _QuestionChange.CONFIRMED
    overdue = question.stage is Stage.SENT and asked_at >= question.sent_at + CONFIRM_WITHIN
    return _QuestionChange.UNCONFIRMED if overdue else None


def _apply_question_change(
    run: Run, seen: TrackedRun, answer: responses.StatusResponse, policy: CrewPolicy, asked_at: float
) -> Decision:
    waiting, question = run.state is State.WAITING_FOR_HUMAN, run.human_input.question
    match _question_change(waiting, question, seen, answer, policy, asked_at):
        case None:
            return Decision(run)
        case _QuestionChange.ASKED:
            return _ask(run, AskedQuestion(), policy, asked_at)
        case _QuestionChange.MOVED_ON:
            human_input = _closed(run.human_input, asked_at)
            return Decision(_confirmed(state_machine.move(run, State.RUNNING, human_input=human_input, due_at=None)))
        case _QuestionChange.TOO_LATE:
            assert question is not None
            text = feedback.feedback_text(policy.human_default, None, question.asked, policy)
            return Decision(_accept_answer(run, question, text, approve=text == APPROVED, now=asked_at))
        case _QuestionChange.CONFIRMED:
            return Decision(_confirmed(run))
        case _QuestionChange.UNCONFIRMED:
            return _unconfirmed(run, "nothing has happened since the answer was sent", policy, asked_at)
        case impossible:
            assert_never(impossible)


def _pausing(seen: TrackedRun, answer: responses.StatusResponse, policy: CrewPolicy, asked_at: float) -> bool:
    """Whether the status says that the execution waits: outright, or by NOT FOUND where that may mean it."""
    if isinstance(answer, responses.WaitingForHuman):
        return True
    if not policy.human_input or not isinstance(answer, responses.NotFound):
        return False
    return state_machine.long_missing(seen, asked_at) or (seen.seen_alive and not policy.questions_announced)


def _moments(question: Question | None) -> Iterable[float]:
    """When a look is due whatever the pace."""
    if question is not None and question.stage is Stage.OPEN and question.answer_by is not None:
        yield question.answer_by
    if question is not None and question.stage is Stage.SENT and question.sent_at is not None:
        yield question.sent_at + CONFIRM_WITHIN


def _ask(run: Run, asked: AskedQuestion, policy: CrewPolicy, now: float) -> Decision:
    """A question that is news; one that was open before it has been answered elsewhere."""
    before = run.human_input.question
    waiting = run.state is State.WAITING_FOR_HUMAN
    human_input = _closed(run.human_input, now) if waiting else run.human_input
    answer_by = None if policy.human_deadline is None else now + policy.human_deadline
    question = Question(before.number + 1 if before else 1, now, answer_by, asked)
    human_input = _opened(replace(human_input, known=_kept(human_input.known, asked)), question, now)
    asking = replace(run, human_input=human_input, due_at=None, started_at=run.started_at or now)
    asking = asking if waiting else state_machine.move(asking, State.WAITING_FOR_HUMAN)
    return cloudevents.about(asking, cloudevents.WAITING_FOR_HUMAN, policy, now, sequence=question.number)


def _accept_answer(run: Run, question: Question, text: str, *, approve: bool, now: float) -> Run:
    """An answer, for anybody to carry."""
    given = replace(question, stage=Stage.ACCEPTED, feedback=text, approve=approve)
    return replace(run, human_input=replace(run.human_input, question=given), owner=None, due_at=now, deferral=None)


def _put_back(run: Run, question: Question, due_at: float, now: float) -> Run:
    """Nothing left: the answer is carried once more, later, by anybody."""
    given = replace(question, stage=Stage.ACCEPTED, sent_at=None)
    human_input = _opened(run.human_input, given, now)
    return state_machine.move(run, State.WAITING_FOR_HUMAN, human_input=human_input, owner=None, due_at=due_at)


def _opened(human_input: HumanInput, question: Question, now: float) -> HumanInput:
    """While a question is open, the run's deadline stands still, for as long as humans may take."""
    return replace(
        human_input, question=question, paused_seconds=human_input.paused_seconds + _time_left(question, now)
    )


def _closed(human_input: HumanInput, now: float) -> HumanInput:
    """The time that humans did not take is taken back."""
    assert human_input.question is not None
    return replace(human_input, paused_seconds=human_input.paused_seconds - _time_left(human_input.question, now))


def _time_left(question: Question, now: float) -> float:
    return 0.0 if question.answer_by is None else max(0.0, question.answer_by - now)


def _awaits_confirmation(question: Question) -> bool:
    return question.stage in {Stage.SENT, Stage.UNCONFIRMED}


def _confirmed(run: Run) -> Run:
    assert run.human_input.question is not None
    return replace(
        run, human_input=replace(run.human_input, question=replace(run.human_input.question, stage=Stage.CONFIRMED))
    )


def _unconfirmed(run: Run, why: str, policy: CrewPolicy, now: float) -> Decision:
    question = run.human_input.question
    assert question is not None
    told = replace(
        run, human_input=replace(run.human_input, question=replace(question, stage=Stage.UNCONFIRMED, problem=why))
    )
    return cloudevents.about(told, cloudevents.RESUME_UNCONFIRMED, policy, now, sequence=question.number)


def _kept(known: tuple[str, ...], asked: AskedQuestion) -> tuple[str, ...]:
    return known if asked.task_id is None else (*known, asked.task_id)[-MAX_KEPT:]
