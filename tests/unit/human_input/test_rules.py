"""The rules of human input: every branch, and the promises that hold for any history."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
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
from bridge.core.crew_policy import CrewPolicy
from bridge.core.errors import IllegalTransition, RequestRefused
from bridge.core.human_input import rules
from bridge.core.human_input.feedback import Resume
from bridge.core.human_input.model import Question, QuestionContent, QuestionStage
from bridge.core.human_input.rules import CONFIRM_WITHIN, MOVED_ON_AFTER
from bridge.core.runs import state_machine, tracking
from bridge.core.runs.changes import Lost
from bridge.core.runs.commands import apply_command, read_resume
from bridge.core.runs.model import TRACKED_STATES, Decision, Run, State, TrackedRun
from bridge.core.runs.observation import apply_observation, observe
from tests.fakes import NOW, a_run, event_types

POLICY = CrewPolicy(deadline=600.0, results_exchange=True)
HITL = replace(POLICY, human_input=True)
WITH_DEADLINE = replace(POLICY, human_deadline=100.0, human_default="Go on.")
FLOW = replace(POLICY, is_flow=True)
CALLBACK = "https://amp.example.com/respond?token=x"
YES = Resume(approve=True)


def running() -> Run:
    begun = state_machine.begin(a_run(), NOW)
    return state_machine.on_kickoff(begun, Started("k-1"), POLICY, NOW).run


def with_question(policy: CrewPolicy = POLICY, **content: Any) -> Run:
    decision = rules.on_question(running(), QuestionContent(**{"task_id": "t-1", **content}), policy, NOW)
    assert decision is not None
    return decision.run


def submitted(run: Run | None = None, command: Resume = YES, policy: CrewPolicy = POLICY) -> Run:
    decision = rules.accept_answer(run or with_question(), command, policy, NOW + 1)
    assert decision is not None
    return decision.run


def sent() -> Run:
    return rules.begin_submission(submitted(), NOW + 2).run


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
    run: Run, response: StatusResponse, at: float, policy: CrewPolicy = POLICY, **tracked: Any
) -> tuple[TrackedRun, Decision | None]:
    """Apply a status as the polling step does."""
    before = replace(tracking.tracked_from_run(run, policy, NOW), **{"started_at": NOW, **tracked})
    observation = observe(before, response, policy, at)
    return observation.tracked, apply_observation(run, observation, policy) if observation.changes else None


# Questions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(set(State) - TRACKED_STATES))
def test_only_a_tracked_run_can_have_a_question(state: State):
    assert rules.on_question(replace(running(), state=state), QuestionContent("t-1"), POLICY, NOW) is None


def test_a_question_starts_its_deadline_and_is_reported():
    decision = rules.on_question(running(), QuestionContent("t-1", "Approve?"), POLICY, NOW + 9)
    assert decision is not None
    assert (decision.run.state, decision.run.started_at) == (State.WAITING_FOR_HUMAN, NOW + 9)
    assert event_types(decision.deliveries) == ["run.waiting_for_human"]


@pytest.mark.parametrize("run", [with_question(), sent()])
def test_a_question_without_a_task_id_is_the_open_one(run: Run):
    assert rules.on_question(run, QuestionContent(None, "?"), POLICY, NOW) is None


def test_a_question_without_a_task_id_after_an_answered_one_is_new():
    written = rules.on_activity(sent())
    assert written is not None
    decision = rules.on_question(written.run, QuestionContent(None, "?"), POLICY, NOW)
    assert decision is not None
    assert question_of(decision.run).number == 2


def test_a_new_question_replaces_one_that_was_answered_elsewhere():
    decision = rules.on_question(submitted(), QuestionContent("t-2"), POLICY, NOW + 5)
    assert decision is not None
    assert (question_of(decision.run).number, stage(decision.run), decision.run.due_at) == (2, QuestionStage.OPEN, None)
    assert decision.deliveries[0].event.event_id.endswith("-waiting_for_human-2")


def test_a_task_id_that_arrives_later_is_added_without_an_event():
    _, reported = seen(running(), WaitingForHuman(), NOW + 5)
    assert reported is not None
    named = rules.on_question(reported.run, QuestionContent("t-1", "Approve?", callback_url=CALLBACK), POLICY, NOW + 6)
    assert named is not None
    assert (named.deliveries, question_of(named.run).content.output, named.run.human_input.known_task_ids) == (
        (),
        "Approve?",
        ("t-1",),
    )


def test_at_most_a_hundred_task_ids_are_kept():
    run = running()
    for number in range(120):
        decision = rules.on_question(run, QuestionContent(f"t-{number}"), POLICY, NOW)
        assert decision is not None
        run = decision.run
    assert (len(run.human_input.known_task_ids), run.human_input.known_task_ids[-1]) == (rules.MAX_KEPT, "t-119")


@pytest.mark.parametrize("run", [running(), with_question(), replace(sent(), state=State.CANCELLED)])
def test_work_without_a_pending_answer_confirms_nothing(run: Run):
    assert rules.on_activity(run) is None


# Polls --------------------------------------------------------------------------------------------------------------


def test_a_status_that_waits_for_a_human_is_a_question():
    _, decision = seen(running(), WaitingForHuman(), NOW + 5)
    assert decision is not None
    assert event_types(decision.deliveries) == ["run.waiting_for_human"]


def test_with_webhooks_two_such_statuses_in_a_row_are_a_question():
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
    ("policy", "tracked", "is_question"),
    [
        (HITL, {"seen_alive": True}, True),
        (HITL, {"seen_alive": False}, False),
        (HITL, {"seen_alive": False, "missing": 5}, True),
        (POLICY, {"seen_alive": True}, False),
    ],
)
def test_not_found_after_a_seen_execution_is_a_question_where_humans_are_asked(
    policy: CrewPolicy, tracked: dict[str, Any], is_question: bool
):
    _, decision = seen(running(), NotFound(), NOW + 61, policy, **tracked)
    assert (decision is not None) is is_question


@pytest.mark.parametrize(
    "response", [NotFound(), Pending(), WaitingForHuman(), Unknown("?"), NoResponse("x"), CrewUnavailable("401")]
)
def test_the_possible_statuses_of_a_waiting_execution_change_nothing(response: StatusResponse):
    assert seen(with_question(), response, NOW + 90)[1] is None


@pytest.mark.parametrize(("seconds", "closed"), [(MOVED_ON_AFTER, True), (MOVED_ON_AFTER - 1, False)])
def test_work_seen_some_time_after_a_question_means_that_it_was_answered_elsewhere(seconds: float, closed: bool):
    _, decision = seen(with_question(), Running(), NOW + seconds)
    assert (decision is not None) is closed
    if decision is not None:
        assert (decision.run.state, stage(decision.run), decision.deliveries) == (
            State.RUNNING,
            QuestionStage.CONFIRMED,
            (),
        )


@pytest.mark.parametrize("response", [Succeeded("r"), Failed("boom")])
def test_an_end_during_a_question_ends_the_run_with_one_event(response: StatusResponse):
    _, decision = seen(with_question(), response, NOW + 30)
    assert decision is not None
    assert decision.run.final
    assert len(decision.deliveries) == 1


def test_the_deadline_ends_a_waiting_run():
    _, decision = seen(with_question(), NotFound(), NOW + 600)
    assert decision is not None
    assert decision.run.state is State.TIMED_OUT


def test_the_deadline_is_extended_by_the_time_for_human_input():
    run = with_question(WITH_DEADLINE)
    assert tracking.tracked_from_run(run, WITH_DEADLINE, NOW).deadline == 700
    answered = rules.begin_submission(submitted(run, policy=WITH_DEADLINE), NOW + 40).run
    assert tracking.tracked_from_run(answered, WITH_DEADLINE, NOW).deadline == 640
    late = rules.begin_submission(submitted(run, policy=WITH_DEADLINE), NOW + 400).run
    assert tracking.tracked_from_run(late, WITH_DEADLINE, NOW).deadline == 700


@pytest.mark.parametrize(
    ("response", "value"), [(NotFound(), True), (NoResponse("x"), False), (CrewUnavailable("x"), False)]
)
def test_without_an_answer_in_time_the_default_is_sent(response: StatusResponse, value: bool):
    _, decision = seen(with_question(WITH_DEADLINE), response, NOW + 100, WITH_DEADLINE)
    assert (decision is not None) is value
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
        (with_question(WITH_DEADLINE), WITH_DEADLINE, NOW + 99),
        (with_question(), replace(WITH_DEADLINE, human_deadline=None), NOW + 500),
        (with_question(WITH_DEADLINE), replace(WITH_DEADLINE, human_default=None), NOW + 500),
        (with_question(WITH_DEADLINE, task_id=None), WITH_DEADLINE, NOW + 500),
        (with_question(WITH_DEADLINE), replace(WITH_DEADLINE, is_flow=True), NOW + 500),
    ],
)
def test_no_default_is_sent_early_or_without_an_address(run: Run, policy: CrewPolicy, at: float):
    assert seen(run, NotFound(), at, policy)[1] is None


@pytest.mark.parametrize("response", [Running(), Pending()])
def test_work_confirms_an_answer_once(response: StatusResponse):
    _, decision = seen(sent(), response, NOW + 3)
    assert decision is not None
    assert (stage(decision.run), decision.deliveries) == (QuestionStage.CONFIRMED, ())
    assert seen(decision.run, response, NOW + 4)[1] is None
    assert seen(sent(), response, NOW + 2)[1] is None  # polled before the answer was sent


@pytest.mark.parametrize("response", [NotFound(), WaitingForHuman(), Unknown("?"), NoResponse("x")])
def test_without_evidence_an_answer_is_reported_as_unconfirmed_once(response: StatusResponse):
    assert seen(sent(), response, NOW + 1 + CONFIRM_WITHIN)[1] is None
    _, decision = seen(sent(), response, NOW + 2 + CONFIRM_WITHIN)
    assert decision is not None
    assert (decision.run.state, event_types(decision.deliveries)) == (State.RUNNING, ["run.resume_unconfirmed"])
    assert seen(decision.run, response, NOW + 9 + 2 * CONFIRM_WITHIN)[1] is None
    _, confirmed = seen(decision.run, Running(), NOW + 500)
    assert confirmed is not None
    assert stage(confirmed.run) is QuestionStage.CONFIRMED


def test_a_tracked_run_takes_over_changes_of_other_processes():
    tracked = replace(
        tracking.tracked_from_run(with_question(WITH_DEADLINE), WITH_DEADLINE, NOW),
        pauses=3,
        seen_alive=True,
        deadline=900.0,
    )
    answered = rules.begin_submission(submitted(with_question(WITH_DEADLINE), policy=WITH_DEADLINE), NOW + 40).run
    after = tracking.sync_with_run(tracked, answered)
    assert (after.waiting, after.pauses, after.seen_alive, after.deadline) == (False, 0, False, 840.0)
    assert tracking.sync_with_run(tracked, with_question(WITH_DEADLINE)) == tracked
    later = replace(answered, polls=4)
    assert [tracking.sync_with_run(replace(tracked, polls=polls), later).polls for polls in (2, 9)] == [4, 9]


def test_a_stale_tracked_run_keeps_the_changes_of_another_process():
    """Another process stored the question; this one still counts polls with NOT FOUND."""
    stale = replace(tracking.tracked_from_run(running(), POLICY, NOW), missing=4)
    observation = observe(stale, NotFound(), POLICY, NOW + 100)
    assert observation.changes == (Lost(),)
    decision = apply_observation(with_question(), observation, POLICY)
    assert decision.run.state is State.WAITING_FOR_HUMAN


@pytest.mark.parametrize(
    ("run", "due"),
    [(with_question(WITH_DEADLINE), [100.0]), (sent(), [2 + CONFIRM_WITHIN]), (submitted(), []), (running(), [])],
)
def test_a_poll_is_due_when_an_answer_or_its_effect_is(run: Run, due: list[float]):
    assert [at - NOW for at in rules.deadlines(run.human_input.question)] == due


def test_an_alias_is_polled_only_if_one_exists_and_the_first_id_is_not_found():
    tracked = tracking.tracked_from_run(running(), POLICY, NOW)
    named = replace(tracked, human_input=replace(tracked.human_input, aliases=("a-1", "a-2")))
    assert rules.alias_to_poll(tracked, NotFound()) is None
    assert rules.alias_to_poll(named, Running()) is None
    assert rules.alias_to_poll(named, NotFound()) == "a-2"


def test_a_failure_of_an_alias_counts_without_other_evidence():
    tracked = tracking.tracked_from_run(sent(), POLICY, NOW)
    _, decision = seen(sent(), NotFound(), NOW + 100)
    assert decision is not None
    assert rules.judge_alias_status(tracked, Failed("x")) == NotFound()
    assert rules.judge_alias_status(tracked, Running()) == Running()
    assert rules.judge_alias_status(tracking.sync_with_run(tracked, decision.run), Failed("x")) == Failed("x")
    assert rules.judge_alias_status(tracking.tracked_from_run(running(), POLICY, NOW), Failed("x")) == NotFound()


# Answers ----------------------------------------------------------------------------------------------------------


def code(run: Run, command: Resume, policy: CrewPolicy = POLICY) -> str:
    with pytest.raises(RequestRefused) as caught:
        rules.accept_answer(run, command, policy, NOW)
    return caught.value.code


@pytest.mark.parametrize("run", [running(), submitted(), sent(), replace(with_question(), state=State.SUCCEEDED)])
def test_an_answer_without_an_open_question_is_refused(run: Run):
    assert code(run, Resume("No.")) == "not_waiting"


def test_an_answer_to_another_question_is_refused():
    assert code(with_question(), Resume("No.", task_id="t-0")) == "not_waiting"


def test_an_answer_to_the_previous_question_is_refused_while_the_open_one_has_no_task_id():
    """A second human was slow; meanwhile the status reported a pause without a task id."""
    before = answered()
    asked_again = rules.on_question(before, QuestionContent(), POLICY, NOW + 30)
    assert asked_again is not None
    assert question_of(asked_again.run).number == 2
    assert code(asked_again.run, Resume("No.", task_id="t-1")) == "not_waiting"
    assert submitted(asked_again.run, Resume("No.", task_id="t-2")).state is State.WAITING_FOR_HUMAN


def test_a_crew_question_needs_its_task_id_and_a_flow_question_its_callback():
    assert code(with_question(task_id=None), YES) == "invalid_request"
    assert code(with_question(), YES, FLOW) == "not_waiting"
    assert question_of(submitted(with_question(task_id=None), Resume("x", task_id="t-9"))).content.task_id == "t-9"


@pytest.mark.parametrize("command", [Resume(), Resume(" "), Resume(None, approve=False)])
def test_an_empty_answer_is_refused(command: Resume):
    assert code(with_question(), command) == "invalid_request"


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
def test_the_text_that_is_sent(command: Resume, policy: CrewPolicy, sent_text: str):
    run = with_question(options=("Approved", "rejected"), callback_url=CALLBACK)
    assert question_of(submitted(run, command, policy)).feedback == sent_text


def test_a_flow_without_options_receives_the_text_or_the_default_text():
    run = with_question(callback_url=CALLBACK)
    assert question_of(submitted(run, Resume("Well.", approve=True), FLOW)).feedback == "Well."
    assert question_of(submitted(run, YES, FLOW)).feedback == "Approved."


def test_the_same_message_is_the_same_answer():
    run = submitted(command=Resume("Yes.", key="m-1"))
    assert rules.accept_answer(run, Resume("Yes.", key="m-1"), POLICY, NOW) is None
    assert code(run, Resume("No.", key="m-1")) == "not_waiting"
    assert code(run, Resume("Yes.", key="m-2")) == "not_waiting"
    assert code(run, Resume("Yes.")) == "not_waiting"
    assert rules.accept_answer(run, Resume("Yes.", redelivered=True), POLICY, NOW) is None
    assert code(run, Resume("No.", redelivered=True)) == "not_waiting"


def test_resume_is_accepted_in_every_state():
    assert apply_command(with_question(), YES, POLICY, NOW) == rules.accept_answer(with_question(), YES, POLICY, NOW)
    with pytest.raises(RequestRefused, match="no open question"):
        apply_command(state_machine.begin(a_run(), NOW), YES, POLICY, NOW)


def test_an_answer_is_marked_before_it_is_sent():
    run = rules.begin_submission(replace(submitted(), owner="me"), NOW + 2).run
    assert (run.state, stage(run), question_of(run).sent_at) == (State.RUNNING, QuestionStage.SENT, NOW + 2)
    assert (run.due_at, run.owner) == (None, "me")
    with pytest.raises(IllegalTransition):
        rules.begin_submission(run, NOW + 3)


@pytest.mark.parametrize("response", [Resumed(), InDoubt("reset")])
def test_an_answer_that_may_have_arrived_is_waited_for(response: ResumeResponse):
    assert rules.on_submitted(sent(), 1, response, POLICY, NOW + 3) == Decision(sent())


def test_an_alias_is_kept_whatever_happened_meanwhile():
    for run in (sent(), replace(sent(), state=State.SUCCEEDED)):
        assert rules.on_submitted(run, 1, Resumed("a-1"), POLICY, NOW).run.human_input.aliases == ("a-1",)


@pytest.mark.parametrize("response", [NotStarted("x"), NotStarted("x", 500.0), CrewUnavailable("HTTP 401")])
def test_only_an_answer_that_was_certainly_not_sent_is_sent_once_more(response: ResumeResponse):
    run = rules.on_submitted(replace(sent(), owner="me"), 1, response, POLICY, NOW + 3).run
    assert (run.state, stage(run), run.owner) == (State.WAITING_FOR_HUMAN, QuestionStage.ACCEPTED, None)
    assert run.due_at is not None
    assert run.due_at > NOW + 3


def test_a_refusal_is_reported_at_once():
    decision = rules.on_submitted(sent(), 1, Refused("HTTP 422"), POLICY, NOW + 3)
    assert (question_of(decision.run).problem, stage(decision.run)) == ("HTTP 422", QuestionStage.UNCONFIRMED)
    assert event_types(decision.deliveries) == ["run.resume_unconfirmed"]


@pytest.mark.parametrize("response", [Refused("x"), NotStarted("x"), CrewUnavailable("x"), InDoubt("x"), Resumed()])
def test_the_outcome_of_an_answer_does_not_change_a_run_that_has_moved_on(response: ResumeResponse):
    written = rules.on_activity(sent())
    assert written is not None
    for run, number in ((written.run, 1), (sent(), 7), (replace(sent(), state=State.CANCELLED), 1)):
        assert rules.on_submitted(run, number, response, POLICY, NOW) == Decision(run)


def test_an_answer_that_cannot_be_sent_now_waits():
    run = rules.postpone_submission(replace(submitted(), owner="me"), NOW).run
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
def test_an_invalid_answer_names_the_field(body: dict[str, Any]):
    with pytest.raises(RequestRefused) as caught:
        read_resume(body, None)
    assert (caught.value.code, caught.value.field) == ("invalid_request", next(iter(body)))


# Histories --------------------------------------------------------------------------------------------------------

RESPONSES: st.SearchStrategy[ResumeResponse] = st.sampled_from(
    [Resumed("a-1"), Resumed(), Refused("x"), NotStarted("x"), CrewUnavailable("x"), InDoubt("x")]
)
HAPPENINGS = st.one_of(
    st.tuples(
        st.just("question"),
        st.sampled_from([QuestionContent("t-1"), QuestionContent("t-2"), QuestionContent("t-3"), QuestionContent()]),
    ),
    st.tuples(st.just("answer"), st.sampled_from([YES, Resume("No.", key="k"), Resume("x", redelivered=True)])),
    st.tuples(st.just("submit"), RESPONSES),
    st.tuples(st.just("sign"), st.none()),
    st.tuples(
        st.just("poll"),
        st.sampled_from([Running(), NotFound(), WaitingForHuman(), NoResponse("x"), Pending(), Unknown("?")]),
    ),
)


@dataclass
class History:
    """A run and its history: the reported events, and the questions whose answers may have been sent."""

    policy: CrewPolicy
    now: float = NOW
    run: Run = field(default_factory=running)
    tracked: TrackedRun = field(default_factory=lambda: tracking.tracked_from_run(running(), POLICY, NOW))
    reported: list[str] = field(default_factory=list)
    may_have_left: list[int] = field(default_factory=list)

    def apply(self, what: str, value: Any, seconds: float) -> None:
        self.now += seconds
        try:
            decision = self._decide(what, value)
        except RequestRefused:
            return
        if decision is not None:
            self.run = decision.run
            self.reported += [delivery.event.event_id for delivery in decision.deliveries]

    def _decide(self, what: str, value: Any) -> Decision | None:
        match what:
            case "question":
                return rules.on_question(self.run, value, self.policy, self.now)
            case "answer":
                return rules.accept_answer(self.run, value, self.policy, self.now)
            case "sign":
                return rules.on_activity(self.run)
            case "submit":
                return self._submit_answer(value) if self.run.due_at is not None else None
            case _:
                return self._poll(value)

    def _submit_answer(self, response: ResumeResponse) -> Decision:
        begun = rules.begin_submission(self.run, self.now).run
        number = question_of(begun).number
        if not isinstance(response, NotStarted | CrewUnavailable):
            self.may_have_left.append(number)
        return rules.on_submitted(begun, number, response, self.policy, self.now)

    def _poll(self, response: StatusResponse) -> Decision | None:
        synced = tracking.sync_with_run(self.tracked, self.run)
        observation = observe(synced, response, self.policy, self.now)
        self.tracked = observation.tracked
        return apply_observation(self.run, observation, self.policy) if observation.changes else None


@given(
    st.lists(st.tuples(HAPPENINGS, st.sampled_from([0.0, 1.0, 20.0, 70.0])), max_size=30),
    st.sampled_from([POLICY, HITL, WITH_DEADLINE, replace(HITL, questions_announced=True)]),
)
def test_in_any_history_a_question_is_reported_once_and_its_answer_posted_at_most_once(
    happenings: list[tuple[tuple[str, Any], float]], policy: CrewPolicy
):
    history = History(replace(policy, deadline=1e9))
    history.tracked = replace(history.tracked, deadline=1e9)
    for (what, response), seconds in happenings:
        history.apply(what, response, seconds)
    run = history.run
    assert len(set(history.reported)) == len(history.reported)
    assert len(set(history.may_have_left)) == len(history.may_have_left)
    on_no_response = run.human_input.question is not None and stage(run) in {QuestionStage.OPEN, QuestionStage.ACCEPTED}
    assert (run.state is State.WAITING_FOR_HUMAN) == on_no_response
