"""The rules of questions and answers, without a store: every branch, and what holds for any history."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.crew.responses import (
    CrewUnavailable,
    Failed,
    InDoubt,
    NoResponse,
    NotFound,
    NotStarted,
    Pending,
    Refused,
    Resumed,
    ResumeResponse,
    Running,
    Started,
    StatusResponse,
    Succeeded,
    Unknown,
    WaitingForHuman,
)
from bridge.core.errors import IllegalTransition, RequestRefused
from bridge.core.human_input import rules
from bridge.core.human_input.feedback import Resume
from bridge.core.human_input.model import Question, QuestionContent, QuestionStage
from bridge.core.human_input.rules import CONFIRM_WITHIN, MOVED_ON_AFTER
from bridge.core.runs import state_machine
from bridge.core.runs.commands import apply_command, read_resume
from bridge.core.runs.model import CrewPolicy, Decision, Run, State, TrackedRun
from tests.fakes import NOW, a_run, event_types

POLICY = CrewPolicy(deadline=600.0, results_exchange=True)
HITL = replace(POLICY, human_input=True)
PATIENT = replace(POLICY, human_deadline=100.0, human_default="Go on.")
FLOW = replace(POLICY, is_flow=True)
CALLBACK = "https://amp.example.com/respond?token=x"
YES = Resume(approve=True)


def running() -> Run:
    begun = state_machine.begin(a_run(), NOW).run
    return state_machine.on_kickoff(begun, Started("k-1"), POLICY, NOW).run


def asking(policy: CrewPolicy = POLICY, **asked: Any) -> Run:
    decision = rules.on_question(running(), QuestionContent(**{"task_id": "t-1", **asked}), policy, NOW)
    assert decision is not None
    return decision.run


def given_(run: Run | None = None, command: Resume = YES, policy: CrewPolicy = POLICY) -> Run:
    decision = rules.accept_answer(run or asking(), command, policy, NOW + 1)
    assert decision is not None
    return decision.run


def sent() -> Run:
    return rules.begin_submission(given_(), NOW + 2).run


def answered() -> Run:
    decision = rules.on_activity(sent())
    assert decision is not None
    return decision.run


def question_of(run: Run) -> Question:
    assert run.human_input.question is not None
    return run.human_input.question


def stage(run: Run) -> QuestionStage:
    return question_of(run).stage


def seen(
    run: Run, answer: StatusResponse, at: float, policy: CrewPolicy = POLICY, **tracked: Any
) -> tuple[TrackedRun, Decision | None]:
    """What the polling step does with an answer."""
    before = replace(state_machine.tracked_from_run(run, policy, NOW), **{"started_at": NOW, **tracked})
    after, news = rules.observe_status(before, answer, policy, at)
    return after, rules.apply_status(run, after, answer, policy, at) if news else None


# Questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(set(State) - rules.TRACKED_STATES))
def test_only_a_run_that_is_followed_can_be_asked_about(state: State):
    assert rules.on_question(replace(running(), state=state), QuestionContent("t-1"), POLICY, NOW) is None


def test_a_question_starts_the_deadline_and_is_told():
    decision = rules.on_question(running(), QuestionContent("t-1", "Approve?"), POLICY, NOW + 9)
    assert decision is not None
    assert (decision.run.state, decision.run.started_at) == (State.WAITING_FOR_HUMAN, NOW + 9)
    assert event_types(decision.deliveries) == ["run.waiting_for_human"]


@pytest.mark.parametrize("run", [asking(), sent()])
def test_a_question_without_a_name_is_the_one_that_is_known(run: Run):
    assert rules.on_question(run, QuestionContent(None, "?"), POLICY, NOW) is None


def test_a_question_without_a_name_after_a_settled_one_is_new():
    written = rules.on_activity(sent())
    assert written is not None
    decision = rules.on_question(written.run, QuestionContent(None, "?"), POLICY, NOW)
    assert decision is not None
    assert question_of(decision.run).number == 2


def test_a_new_question_ends_one_that_was_answered_elsewhere():
    decision = rules.on_question(given_(), QuestionContent("t-2"), POLICY, NOW + 5)
    assert decision is not None
    assert (question_of(decision.run).number, stage(decision.run), decision.run.due_at) == (2, QuestionStage.OPEN, None)
    assert decision.deliveries[0].event.event_id.endswith("-waiting_for_human-2")


def test_the_name_of_a_question_that_the_status_told_may_come_later_and_is_no_news():
    _, told = seen(running(), WaitingForHuman(), NOW + 5)
    assert told is not None
    named = rules.on_question(told.run, QuestionContent("t-1", "Approve?", callback_url=CALLBACK), POLICY, NOW + 6)
    assert named is not None
    assert (named.deliveries, question_of(named.run).content.output, named.run.human_input.known_task_ids) == (
        (),
        "Approve?",
        ("t-1",),
    )


def test_only_a_hundred_names_are_remembered():
    run = running()
    for number in range(120):
        decision = rules.on_question(run, QuestionContent(f"t-{number}"), POLICY, NOW)
        assert decision is not None
        run = decision.run
    assert (len(run.human_input.known_task_ids), run.human_input.known_task_ids[-1]) == (rules.MAX_KEPT, "t-119")


@pytest.mark.parametrize("run", [running(), asking(), replace(sent(), state=State.CANCELLED)])
def test_a_sign_means_nothing_where_nobody_waits_for_one(run: Run):
    assert rules.on_activity(run) is None


# Looks ------------------------------------------------------------------------------------------------------------


def test_a_status_that_says_so_is_a_question():
    _, decision = seen(running(), WaitingForHuman(), NOW + 5)
    assert decision is not None
    assert event_types(decision.deliveries) == ["run.waiting_for_human"]


def test_where_webhooks_bring_questions_it_takes_two_in_a_row():
    policy = replace(HITL, questions_announced=True)
    tracked, decision = seen(running(), WaitingForHuman(), NOW + 5, policy)
    assert (tracked.pauses, decision) == (1, None)
    tracked, _ = seen(running(), NoResponse("x"), NOW + 6, policy, pauses=1)
    assert tracked.pauses == 1
    tracked, _ = seen(running(), Running(), NOW + 6, policy, pauses=1)
    assert tracked.pauses == 0
    _, decision = seen(running(), WaitingForHuman(), NOW + 6, policy, pauses=1)
    assert decision is not None
    assert seen(running(), NotFound(), NOW + 6, policy, pauses=1, seen_alive=True)[1] is None


@pytest.mark.parametrize(
    ("policy", "tracked", "asked"),
    [
        (HITL, {"seen_alive": True}, True),
        (HITL, {"seen_alive": False}, False),
        (HITL, {"seen_alive": False, "missing": 5}, True),
        (POLICY, {"seen_alive": True}, False),
    ],
)
def test_not_found_is_a_question_where_humans_are_asked_and_the_execution_was_seen(
    policy: CrewPolicy, tracked: dict[str, Any], asked: bool
):
    _, decision = seen(running(), NotFound(), NOW + 61, policy, **tracked)
    assert (decision is not None) is asked


@pytest.mark.parametrize(
    "answer", [NotFound(), Pending(), WaitingForHuman(), Unknown("?"), NoResponse("x"), CrewUnavailable("401")]
)
def test_what_may_be_said_of_a_waiting_execution_is_no_news(answer: StatusResponse):
    assert seen(asking(), answer, NOW + 90)[1] is None


@pytest.mark.parametrize(("seconds", "closed"), [(MOVED_ON_AFTER, True), (MOVED_ON_AFTER - 1, False)])
def test_work_that_is_seen_a_while_after_a_question_means_that_somebody_else_answered(seconds: float, closed: bool):
    _, decision = seen(asking(), Running(), NOW + seconds)
    assert (decision is not None) is closed
    if decision is not None:
        assert (decision.run.state, stage(decision.run), decision.deliveries) == (
            State.RUNNING,
            QuestionStage.CONFIRMED,
            (),
        )


@pytest.mark.parametrize("answer", [Succeeded("r"), Failed("boom")])
def test_an_end_while_it_waits_is_the_end_and_nothing_else(answer: StatusResponse):
    _, decision = seen(asking(), answer, NOW + 30)
    assert decision is not None
    assert decision.run.final
    assert len(decision.deliveries) == 1


def test_the_deadline_ends_a_run_that_waits():
    _, decision = seen(asking(), NotFound(), NOW + 600)
    assert decision is not None
    assert decision.run.state is State.TIMED_OUT


def test_the_deadline_stands_still_while_humans_have_their_time():
    run = asking(PATIENT)
    assert state_machine.tracked_from_run(run, PATIENT, NOW).deadline == 700
    answered = rules.begin_submission(given_(run, policy=PATIENT), NOW + 40).run
    assert state_machine.tracked_from_run(answered, PATIENT, NOW).deadline == 640
    late = rules.begin_submission(given_(run, policy=PATIENT), NOW + 400).run
    assert state_machine.tracked_from_run(late, PATIENT, NOW).deadline == 700


@pytest.mark.parametrize(
    ("answer", "given"), [(NotFound(), True), (NoResponse("x"), False), (CrewUnavailable("x"), False)]
)
def test_without_an_answer_in_time_the_default_is_given(answer: StatusResponse, given: bool):
    _, decision = seen(asking(PATIENT), answer, NOW + 100, PATIENT)
    assert (decision is not None) is given
    if decision is not None:
        question = question_of(decision.run)
        assert (question.stage, question.feedback, question.approve) == (QuestionStage.ACCEPTED, "Go on.", False)
        assert (decision.run.state, decision.run.due_at, decision.run.owner) == (
            State.WAITING_FOR_HUMAN,
            NOW + 100,
            None,
        )


@pytest.mark.parametrize(
    ("run", "policy", "at"),
    [
        (asking(PATIENT), PATIENT, NOW + 99),
        (asking(), replace(PATIENT, human_deadline=None), NOW + 500),
        (asking(PATIENT), replace(PATIENT, human_default=None), NOW + 500),
        (asking(PATIENT, task_id=None), PATIENT, NOW + 500),
        (asking(PATIENT), replace(PATIENT, is_flow=True), NOW + 500),
    ],
)
def test_no_default_before_its_time_or_where_it_could_not_be_sent(run: Run, policy: CrewPolicy, at: float):
    assert seen(run, NotFound(), at, policy)[1] is None


@pytest.mark.parametrize("answer", [Running(), Pending()])
def test_work_confirms_an_answer_once(answer: StatusResponse):
    _, decision = seen(sent(), answer, NOW + 3)
    assert decision is not None
    assert (stage(decision.run), decision.deliveries) == (QuestionStage.CONFIRMED, ())
    assert seen(decision.run, answer, NOW + 4)[1] is None
    assert seen(sent(), answer, NOW + 2)[1] is None  # asked before the answer left


@pytest.mark.parametrize("answer", [NotFound(), WaitingForHuman(), Unknown("?"), NoResponse("x")])
def test_without_any_sign_the_answer_is_unconfirmed_once(answer: StatusResponse):
    assert seen(sent(), answer, NOW + 1 + CONFIRM_WITHIN)[1] is None
    _, decision = seen(sent(), answer, NOW + 2 + CONFIRM_WITHIN)
    assert decision is not None
    assert (decision.run.state, event_types(decision.deliveries)) == (State.RUNNING, ["run.resume_unconfirmed"])
    assert seen(decision.run, answer, NOW + 9 + 2 * CONFIRM_WITHIN)[1] is None
    _, confirmed = seen(decision.run, Running(), NOW + 500)
    assert confirmed is not None
    assert stage(confirmed.run) is QuestionStage.CONFIRMED


def test_a_watch_learns_what_others_wrote():
    tracked = replace(
        state_machine.tracked_from_run(asking(PATIENT), PATIENT, NOW), pauses=3, seen_alive=True, deadline=900.0
    )
    answered = rules.begin_submission(given_(asking(PATIENT), policy=PATIENT), NOW + 40).run
    after = rules.sync_with_run(tracked, answered)
    assert (after.waiting, after.pauses, after.seen_alive, after.deadline) == (False, 0, False, 840.0)
    assert rules.sync_with_run(tracked, asking(PATIENT)) == tracked
    later = replace(answered, polls=4)
    assert [rules.sync_with_run(replace(tracked, polls=polls), later).polls for polls in (2, 9)] == [4, 9]


def test_a_stale_watch_loses_nothing_that_another_process_wrote():
    """Another process took the question; this one still counts looks that do not find the execution."""
    stale = replace(state_machine.tracked_from_run(running(), POLICY, NOW), missing=4)
    after, news = rules.observe_status(stale, NotFound(), POLICY, NOW + 100)
    assert news
    decision = rules.apply_status(asking(), after, NotFound(), POLICY, NOW + 100)
    assert decision.run.state is State.WAITING_FOR_HUMAN


@pytest.mark.parametrize(
    ("run", "due"), [(asking(PATIENT), 100.0), (sent(), 2 + CONFIRM_WITHIN), (given_(), None), (running(), None)]
)
def test_looks_are_rare_while_humans_think_but_not_later_than_something_is_due(run: Run, due: float | None):
    slow = replace(PATIENT, poll_min_interval=200.0, poll_max_interval=1000.0)
    found = rules.next_poll_at(state_machine.tracked_from_run(run, slow, NOW), slow, NOW, pause=200.0)
    assert found == NOW + due if due else found > NOW + 170


def test_another_name_is_asked_only_where_there_is_one_and_the_first_is_unknown():
    tracked = state_machine.tracked_from_run(running(), POLICY, NOW)
    named = replace(tracked, human_input=replace(tracked.human_input, aliases=("a-1", "a-2")))
    assert rules.alias_to_poll(tracked, NotFound()) is None
    assert rules.alias_to_poll(named, Running()) is None
    assert rules.alias_to_poll(named, NotFound()) == "a-2"


def test_a_failure_under_another_name_counts_when_nothing_else_came():
    tracked = state_machine.tracked_from_run(sent(), POLICY, NOW)
    _, decision = seen(sent(), NotFound(), NOW + 100)
    assert decision is not None
    assert rules.judge_alias_status(tracked, Failed("x")) == NotFound()
    assert rules.judge_alias_status(tracked, Running()) == Running()
    assert rules.judge_alias_status(rules.sync_with_run(tracked, decision.run), Failed("x")) == Failed("x")
    assert rules.judge_alias_status(state_machine.tracked_from_run(running(), POLICY, NOW), Failed("x")) == NotFound()


# Answers ----------------------------------------------------------------------------------------------------------


def code(run: Run, command: Resume, policy: CrewPolicy = POLICY) -> str:
    with pytest.raises(RequestRefused) as caught:
        rules.accept_answer(run, command, policy, NOW)
    return caught.value.code


@pytest.mark.parametrize("run", [running(), given_(), sent(), replace(asking(), state=State.SUCCEEDED)])
def test_an_answer_without_an_open_question_is_refused(run: Run):
    assert code(run, Resume("No.")) == "not_waiting"


def test_an_answer_to_another_question_is_refused():
    assert code(asking(), Resume("No.", task_id="t-0")) == "not_waiting"


def test_an_answer_to_the_question_before_is_not_taken_for_one_that_has_no_name_yet():
    """A second human was slow; meanwhile the status told of a pause, and nothing more."""
    before = answered()
    asked_again = rules.on_question(before, QuestionContent(), POLICY, NOW + 30)
    assert asked_again is not None
    assert question_of(asked_again.run).number == 2
    assert code(asked_again.run, Resume("No.", task_id="t-1")) == "not_waiting"
    assert given_(asked_again.run, Resume("No.", task_id="t-2")).state is State.WAITING_FOR_HUMAN


def test_a_crews_question_needs_its_name_and_a_flows_its_address():
    assert code(asking(task_id=None), YES) == "invalid_request"
    assert code(asking(), YES, FLOW) == "not_waiting"
    assert question_of(given_(asking(task_id=None), Resume("x", task_id="t-9"))).content.task_id == "t-9"


@pytest.mark.parametrize("command", [Resume(), Resume(" "), Resume(None, approve=False)])
def test_an_answer_must_say_something(command: Resume):
    assert code(asking(), command) == "invalid_request"


@pytest.mark.parametrize(
    ("command", "policy", "sent_text"),
    [
        (Resume(approve=True), POLICY, "Approved."),
        (Resume("but", approve=True), POLICY, "Approved."),
        (Resume(" More. "), POLICY, "More."),
        (Resume("REJECTED"), FLOW, "rejected"),
        (Resume("whatever", approve=True), FLOW, "Approved"),
        (Resume("rejected", approve=True), FLOW, "rejected"),
        (Resume("whatever"), FLOW, "whatever"),
    ],
)
def test_what_is_sent(command: Resume, policy: CrewPolicy, sent_text: str):
    run = asking(options=("Approved", "rejected"), callback_url=CALLBACK)
    assert question_of(given_(run, command, policy)).feedback == sent_text


def test_a_flow_without_options_gets_the_text_or_the_fixed_one():
    run = asking(callback_url=CALLBACK)
    assert question_of(given_(run, Resume("Well.", approve=True), FLOW)).feedback == "Well."
    assert question_of(given_(run, YES, FLOW)).feedback == "Approved."


def test_the_same_message_is_the_same_answer():
    run = given_(command=Resume("Yes.", key="m-1"))
    assert rules.accept_answer(run, Resume("Yes.", key="m-1"), POLICY, NOW) is None
    assert code(run, Resume("No.", key="m-1")) == "not_waiting"
    assert code(run, Resume("Yes.", key="m-2")) == "not_waiting"
    assert code(run, Resume("Yes.")) == "not_waiting"
    assert rules.accept_answer(run, Resume("Yes.", redelivered=True), POLICY, NOW) is None
    assert code(run, Resume("No.", redelivered=True)) == "not_waiting"


def test_steering_takes_answers_whatever_the_run_is_at():
    assert apply_command(asking(), YES, POLICY, NOW) == rules.accept_answer(asking(), YES, POLICY, NOW)
    with pytest.raises(RequestRefused, match="no open question"):
        apply_command(state_machine.begin(a_run(), NOW).run, YES, POLICY, NOW)


def test_an_answer_is_marked_before_it_leaves():
    run = rules.begin_submission(replace(given_(), owner="me"), NOW + 2).run
    assert (run.state, stage(run), question_of(run).sent_at) == (State.RUNNING, QuestionStage.SENT, NOW + 2)
    assert (run.due_at, run.owner) == (None, "me")
    with pytest.raises(IllegalTransition):
        rules.begin_submission(run, NOW + 3)


@pytest.mark.parametrize("said", [Resumed(), InDoubt("reset")])
def test_what_may_have_had_an_effect_is_waited_for(said: ResumeResponse):
    assert rules.on_submitted(sent(), 1, said, POLICY, NOW + 3) == Decision(sent())


def test_another_name_is_kept_whatever_happened_meanwhile():
    for run in (sent(), replace(sent(), state=State.SUCCEEDED)):
        assert rules.on_submitted(run, 1, Resumed("a-1"), POLICY, NOW).run.human_input.aliases == ("a-1",)


@pytest.mark.parametrize("said", [NotStarted("x"), NotStarted("x", 500.0), CrewUnavailable("HTTP 401")])
def test_only_what_provably_never_left_is_carried_once_more(said: ResumeResponse):
    run = rules.on_submitted(replace(sent(), owner="me"), 1, said, POLICY, NOW + 3).run
    assert (run.state, stage(run), run.owner) == (State.WAITING_FOR_HUMAN, QuestionStage.ACCEPTED, None)
    assert run.due_at is not None
    assert run.due_at > NOW + 3


def test_a_refusal_is_said_at_once():
    decision = rules.on_submitted(sent(), 1, Refused("HTTP 422"), POLICY, NOW + 3)
    assert (question_of(decision.run).problem, stage(decision.run)) == ("HTTP 422", QuestionStage.UNCONFIRMED)
    assert event_types(decision.deliveries) == ["run.resume_unconfirmed"]


@pytest.mark.parametrize("said", [Refused("x"), NotStarted("x"), CrewUnavailable("x"), InDoubt("x"), Resumed()])
def test_where_the_run_has_gone_on_the_answers_fate_changes_nothing(said: ResumeResponse):
    written = rules.on_activity(sent())
    assert written is not None
    for run, number in ((written.run, 1), (sent(), 7), (replace(sent(), state=State.CANCELLED), 1)):
        assert rules.on_submitted(run, number, said, POLICY, NOW) == Decision(run)


def test_an_answer_that_cannot_be_carried_now_waits():
    run = rules.postpone_submission(replace(given_(), owner="me"), NOW).run
    assert (run.state, run.owner) == (State.WAITING_FOR_HUMAN, None)
    assert run.due_at is not None
    assert run.due_at > NOW


# Untrusted bodies -------------------------------------------------------------------------------------------------


def test_an_answer_is_read_from_json():
    assert read_resume({"feedback": "x", "approve": False, "task_id": "t"}, "k", redelivered=True) == Resume(
        "x", approve=False, task_id="t", key="k", redelivered=True
    )
    assert read_resume({}, None) == Resume()


@pytest.mark.parametrize(
    "body", [{"feedback": 7}, {"approve": "yes"}, {"approve": 1}, {"task_id": []}, {"answer": "x"}]
)
def test_an_answer_that_cannot_be_read_names_the_field(body: dict[str, Any]):
    with pytest.raises(RequestRefused) as caught:
        read_resume(body, None)
    assert (caught.value.code, caught.value.field) == ("invalid_request", next(iter(body)))


# Histories --------------------------------------------------------------------------------------------------------

SAID: st.SearchStrategy[ResumeResponse] = st.sampled_from(
    [Resumed("a-1"), Resumed(), Refused("x"), NotStarted("x"), CrewUnavailable("x"), InDoubt("x")]
)
HAPPENINGS = st.one_of(
    st.tuples(
        st.just("question"),
        st.sampled_from([QuestionContent("t-1"), QuestionContent("t-2"), QuestionContent("t-3"), QuestionContent()]),
    ),
    st.tuples(st.just("answer"), st.sampled_from([YES, Resume("No.", key="k"), Resume("x", redelivered=True)])),
    st.tuples(st.just("carry"), SAID),
    st.tuples(st.just("sign"), st.none()),
    st.tuples(
        st.just("look"),
        st.sampled_from([Running(), NotFound(), WaitingForHuman(), NoResponse("x"), Pending(), Unknown("?")]),
    ),
)


@dataclass
class History:
    """A run, what happened to it, what was told, and which questions' answers may have left."""

    policy: CrewPolicy
    now: float = NOW
    run: Run = field(default_factory=running)
    tracked: TrackedRun = field(default_factory=lambda: state_machine.tracked_from_run(running(), POLICY, NOW))
    told: list[str] = field(default_factory=list)
    may_have_left: list[int] = field(default_factory=list)

    def apply(self, what: str, given: Any, seconds: float) -> None:
        self.now += seconds
        try:
            decision = self._decide(what, given)
        except RequestRefused:
            return
        if decision is not None:
            self.run = decision.run
            self.told += [delivery.event.event_id for delivery in decision.deliveries]

    def _decide(self, what: str, given: Any) -> Decision | None:
        match what:
            case "question":
                return rules.on_question(self.run, given, self.policy, self.now)
            case "answer":
                return rules.accept_answer(self.run, given, self.policy, self.now)
            case "sign":
                return rules.on_activity(self.run)
            case "carry":
                return self._submit_answer(given) if self.run.due_at is not None else None
            case _:
                return self._look(given)

    def _submit_answer(self, said: ResumeResponse) -> Decision:
        begun = rules.begin_submission(self.run, self.now).run
        number = question_of(begun).number
        if not isinstance(said, NotStarted | CrewUnavailable):
            self.may_have_left.append(number)
        return rules.on_submitted(begun, number, said, self.policy, self.now)

    def _look(self, answer: StatusResponse) -> Decision | None:
        self.tracked, news = rules.observe_status(
            rules.sync_with_run(self.tracked, self.run), answer, self.policy, self.now
        )
        return rules.apply_status(self.run, self.tracked, answer, self.policy, self.now) if news else None


@settings(max_examples=100)
@given(
    st.lists(st.tuples(HAPPENINGS, st.sampled_from([0.0, 1.0, 20.0, 70.0])), max_size=30),
    st.sampled_from([POLICY, HITL, PATIENT, replace(HITL, questions_announced=True)]),
)
def test_in_any_history_a_question_is_told_once_and_posted_at_most_once(
    happenings: list[tuple[tuple[str, Any], float]], policy: CrewPolicy
):
    history = History(replace(policy, deadline=1e9))
    history.tracked = replace(history.tracked, deadline=1e9)
    for (what, said), seconds in happenings:
        history.apply(what, said, seconds)
    run = history.run
    assert len(set(history.told)) == len(history.told)
    assert len(set(history.may_have_left)) == len(history.may_have_left)
    on_no_response = run.human_input.question is not None and stage(run) in {QuestionStage.OPEN, QuestionStage.ACCEPTED}
    assert (run.state is State.WAITING_FOR_HUMAN) == on_no_response
