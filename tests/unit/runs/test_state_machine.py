"""The state machine: every arrow, every end, and the promises that hold for any history."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.core.crew.responses import (
    CrewUnavailable,
    Failed,
    InDoubt,
    KickoffResponse,
    NoResponse,
    NotFound,
    NotStarted,
    Pending,
    Refused,
    Running,
    Started,
    StatusResponse,
    Succeeded,
    Unknown,
    WaitingForHuman,
)
from bridge.core.errors import IllegalTransition
from bridge.core.runs import state_machine, timing
from bridge.core.runs.model import FINAL_STATES, CrewPolicy, Decision, DoubtPolicy, Envelope, Run, State, TrackedRun
from bridge.core.runs.progress import progress_key
from bridge.core.runs.request import fingerprint
from bridge.core.runs.state_machine import TRANSITIONS
from tests.fakes import NOW, a_request, a_run, event_types, run_id

POLICY = CrewPolicy(deadline=600.0, results_exchange=True)
HITL = replace(POLICY, human_input=True)
FINAL_TYPES = {f"run.{state}" for state in FINAL_STATES}


def starting(**changes: Any) -> Run:
    return replace(state_machine.begin(replace(a_run(), owner="me"), NOW).run, **changes)


def running(policy: CrewPolicy = POLICY, **changes: Any) -> Run:
    return replace(state_machine.on_kickoff(starting(), Started("k-1"), policy, NOW).run, **changes)


def doubted(policy: CrewPolicy = POLICY) -> Run:
    return state_machine.on_kickoff(starting(), InDoubt("HTTP 502"), policy, NOW).run


def watching(policy: CrewPolicy = POLICY, **changes: Any) -> TrackedRun:
    return replace(state_machine.tracked_from_run(running(), policy, NOW), **changes)


def look_and_write(
    run: Run, tracked: TrackedRun, answer: StatusResponse, policy: CrewPolicy, at: float
) -> tuple[TrackedRun, Decision | None]:
    """What the polling step does with an answer."""
    seen, news = state_machine.observe_execution(tracked, answer, policy, at)
    return seen, state_machine.apply_execution_status(run, seen, answer, policy, at) if news else None


# The table --------------------------------------------------------------------------------------------------------


def test_the_table_knows_every_state_and_lets_none_out_of_a_final_one():
    assert set(TRANSITIONS) == set(State)
    assert {state for state, targets in TRANSITIONS.items() if not targets} == FINAL_STATES


def test_every_state_can_be_reached_and_every_open_one_leads_to_an_end():
    assert {target for targets in TRANSITIONS.values() for target in targets} | {State.ACCEPTED} == set(State)
    for state in set(State) - FINAL_STATES:
        reached, more = {state}, {state}
        while more := {target for source in more for target in TRANSITIONS[source]} - reached:
            reached |= more
        assert reached & FINAL_STATES


# Accept and begin -------------------------------------------------------------------------------------------------


def test_an_accepted_run_is_due_at_once_and_knows_its_fingerprint():
    envelope = Envelope("queue", reply_to="reply.a")
    run = state_machine.accept(a_request(), envelope, run_id(7), NOW)
    assert (run.run_id, run.state, run.accepted_at, run.due_at) == (run_id(7), State.ACCEPTED, NOW, NOW)
    assert (run.fingerprint, run.envelope, run.crew) == (fingerprint(a_request()), envelope, "research")
    assert not run.final


def test_begin_marks_the_attempt_before_anything_is_sent():
    decision = state_machine.begin(replace(a_run(), owner="me", attempt=2), NOW + 9)
    run = decision.run
    assert (run.state, run.attempt, run.sent_at, run.due_at, run.owner) == (State.STARTING, 3, NOW + 9, None, "me")
    assert decision.deliveries == ()


@pytest.mark.parametrize("state", sorted(set(State) - {State.ACCEPTED}))
def test_only_an_accepted_run_can_begin(state: State):
    with pytest.raises(IllegalTransition, match=f"{state} -> starting"):
        state_machine.begin(replace(a_run(), state=state), NOW)


# The kickoff's answer ---------------------------------------------------------------------------------------------


def test_started_runs_and_stays_ours_and_keeps_the_id():
    decision = state_machine.on_kickoff(starting(), Started("k-9"), POLICY, NOW + 2)
    assert (decision.run.state, decision.run.kickoff_id, decision.run.owner) == (State.RUNNING, "k-9", "me")
    assert decision.run.started_at is None  # the deadline counts from the first look that sees it started
    assert decision.deliveries == ()


def test_the_started_event_is_told_to_those_who_want_it():
    wanted = replace(POLICY, extra_events=frozenset({"started"}))
    decision = state_machine.on_kickoff(starting(), Started("k-9"), wanted, NOW)
    assert event_types(decision.deliveries) == ["run.started"]


def test_a_refusal_ends_the_run():
    decision = state_machine.on_kickoff(starting(), Refused("HTTP 422: no"), POLICY, NOW + 2)
    run = decision.run
    assert (run.state, run.finished_at, run.owner, run.due_at) == (State.FAILED, NOW + 2, None, None)
    assert run.outcome.error is not None
    assert (run.outcome.error.code, run.outcome.error.message) == ("refused", "HTTP 422: no")
    assert event_types(decision.deliveries) == ["run.failed"]


@pytest.mark.parametrize("after", [None, 500.0])
def test_what_was_not_started_goes_back_for_anybody_to_take_later(after: float | None):
    decision = state_machine.on_kickoff(starting(), NotStarted("refused", after), POLICY, NOW)
    run = decision.run
    assert (run.state, run.owner, decision.deliveries) == (State.ACCEPTED, None, ())
    assert run.due_at == timing.kickoff_again(run.run_id, 1, NOW, after)


def test_a_crew_that_cannot_be_used_lets_its_runs_wait():
    run = state_machine.on_kickoff(starting(), CrewUnavailable("HTTP 401"), POLICY, NOW).run
    assert (run.state, run.due_at, run.owner) == (State.ACCEPTED, NOW + timing.UNAVAILABLE_DELAY, None)


def test_an_answer_that_settles_nothing_puts_the_run_in_doubt():
    decision = state_machine.on_kickoff(starting(), InDoubt("reset"), POLICY, NOW)
    run = decision.run
    assert (run.state, run.owner, run.due_at) == (State.IN_DOUBT, None, NOW + POLICY.in_doubt_after)
    assert decision.deliveries == ()


@pytest.mark.parametrize("answer", [Started("k"), NotStarted("x"), CrewUnavailable("x"), InDoubt("x")])
@pytest.mark.parametrize("state", [State.RUNNING, *sorted(FINAL_STATES)])
def test_an_answer_to_a_kickoff_that_is_not_under_way_moves_nothing(state: State, answer: KickoffResponse):
    with pytest.raises(IllegalTransition):
        state_machine.on_kickoff(replace(running(), state=state), answer, POLICY, NOW)


# In doubt ---------------------------------------------------------------------------------------------------------


def test_a_run_whose_process_died_while_starting_is_in_doubt():
    run = state_machine.on_interrupted_kickoff(starting(), POLICY, NOW + 1).run
    assert (run.state, run.due_at, run.owner) == (State.IN_DOUBT, NOW + 1 + POLICY.in_doubt_after, None)


@pytest.mark.parametrize("state", sorted(set(State) - {State.STARTING}))
def test_only_a_starting_run_can_be_an_orphan(state: State):
    with pytest.raises(IllegalTransition):
        state_machine.on_interrupted_kickoff(replace(running(), state=state), POLICY, NOW)


def test_hold_says_so_once_and_waits_for_a_person():
    decision = state_machine.on_evidence_overdue(doubted(), POLICY, NOW + 900)
    assert (decision.run.state, decision.run.due_at, decision.run.owner) == (State.IN_DOUBT, None, None)
    assert event_types(decision.deliveries) == ["run.in_doubt"]


def test_retry_says_so_and_starts_again():
    policy = replace(POLICY, in_doubt=DoubtPolicy.RETRY)
    decision = state_machine.on_evidence_overdue(doubted(policy), policy, NOW + 900)
    assert (decision.run.state, decision.run.due_at, decision.run.owner) == (State.ACCEPTED, NOW + 900, None)
    assert event_types(decision.deliveries) == ["run.in_doubt"]


def test_fail_says_so_and_gives_up():
    policy = replace(POLICY, in_doubt=DoubtPolicy.FAIL)
    decision = state_machine.on_evidence_overdue(doubted(policy), policy, NOW + 900)
    assert decision.run.state is State.FAILED
    assert decision.run.outcome.error is not None
    assert decision.run.outcome.error.code == "abandoned"
    assert event_types(decision.deliveries) == ["run.in_doubt", "run.failed"]


def test_the_doubt_comes_before_what_it_leads_to():
    """By their times, in which events are listed and tell their order: both had the same one."""
    policy = replace(POLICY, in_doubt=DoubtPolicy.FAIL)
    doubt, end = state_machine.on_evidence_overdue(doubted(policy), policy, NOW + 900).deliveries
    assert doubt.event.created_at < end.event.created_at == NOW + 900
    assert json.loads(doubt.event.body)["time"] < json.loads(end.event.body)["time"]


def test_a_second_doubt_is_another_event():
    ids = [
        state_machine.on_evidence_overdue(replace(doubted(), attempt=attempt), POLICY, NOW).deliveries[0].event.event_id
        for attempt in (1, 2)
    ]
    assert len(set(ids)) == 2


# Looking ----------------------------------------------------------------------------------------------------------


def test_a_watch_knows_what_it_takes_to_look():
    run = running(polls=7, started_at=NOW + 3, progress={"completed": 2})
    tracked = state_machine.tracked_from_run(run, POLICY, NOW + 5)
    assert tracked == TrackedRun(
        run_id(1),
        "research",
        "k-1",
        600.0,
        NOW + 5,
        NOW + 3,
        polls=7,
        tasks_done=2,
        began_at=run.sent_at,
        seen_alive=True,
        progress=(2, None, None),
    )
    assert tracked.deadline_at == NOW + 603
    assert watching().deadline_at is None


def test_the_requests_own_deadline_wins():
    run = replace(running(), request=a_request(deadline=5.0))
    assert state_machine.tracked_from_run(run, POLICY, NOW).deadline == 5.0


@pytest.mark.parametrize("answer", [Running(), Running({"completed": 0}), WaitingForHuman(), Unknown("?")])
def test_the_first_sight_of_a_started_execution_is_news_and_starts_the_deadline(answer: StatusResponse):
    seen, news = state_machine.observe_execution(watching(), answer, POLICY, NOW + 4)
    assert news
    assert (seen.started_at, seen.alive_at, seen.polls) == (NOW + 4, NOW + 4, 1)


@pytest.mark.parametrize(
    "answer",
    [
        Running(),
        Running({"completed": 1}),
        Running({"total": 3}),
        Running({"completed": "?"}),
        Pending(),
        NoResponse("x"),
    ],
)
def test_a_look_that_teaches_nothing_is_no_news(answer: StatusResponse):
    tracked = watching(started_at=NOW, progress=(1, None, None))
    seen, news = state_machine.observe_execution(tracked, answer, POLICY, NOW + 4)
    assert not news
    assert (seen.started_at, seen.progress, seen.polls) == (NOW, (1, None, None), 1)


def test_a_queued_execution_does_not_start_the_deadline():
    seen, news = state_machine.observe_execution(watching(), Pending(), POLICY, NOW + 10_000)
    assert not news
    assert (seen.started_at, seen.alive_at) == (None, NOW + 10_000)


def test_progress_is_news_and_is_written_and_told_if_wanted():
    tracked, run = watching(started_at=NOW, progress=(1, None, None), polls=8), running()
    seen, silent = look_and_write(run, tracked, Running({"completed": 2}), POLICY, NOW + 4)
    assert silent == Decision(replace(run, polls=9, started_at=NOW, progress={"completed": 2}))
    assert seen.progress == (2, None, None)
    _, told = look_and_write(
        run, tracked, Running({"completed": 2}), replace(POLICY, extra_events=frozenset({"progress"})), NOW + 4
    )
    assert told is not None
    assert [delivery.event.event_id for delivery in told.deliveries] == [f"{run_id(1)}-progress-9"]


def test_progress_is_told_once_for_each_change_and_not_twice_in_a_second():
    policy = replace(POLICY, extra_events=frozenset({"progress"}))
    run, tracked, told = running(), watching(started_at=NOW), []
    for seconds, completed in [(10.0, 1), (10.5, 2), (10.9, 2), (11.0, 2), (13.0, 2), (15.0, 3)]:
        tracked, decision = look_and_write(run, tracked, Running({"completed": completed}), policy, NOW + seconds)
        if decision is not None:
            run = decision.run
            told += [(seconds, completed)] * len(decision.deliveries)
    assert told == [(10.0, 1), (11.0, 2), (15.0, 3)]


@pytest.mark.parametrize("answer", [Running(), Running({"total": 3})])
def test_a_status_without_progress_leaves_what_is_stored(answer: StatusResponse):
    policy = replace(POLICY, extra_events=frozenset({"progress"}))
    run = running(progress={"completed": 3}, polls=2)
    _, decision = look_and_write(run, watching(), answer, policy, NOW + 4)
    assert decision == Decision(replace(run, polls=3, started_at=NOW + 4))


def test_an_outdated_watch_gives_no_event_an_id_that_exists():
    """Two polls may begin with the same count; the one that is stored second must not repeat the other's number."""
    policy = replace(POLICY, extra_events=frozenset({"progress"}))
    tracked, ids = watching(started_at=NOW), list[str]()
    run = running()
    for completed in (1, 2):
        _, decision = look_and_write(run, tracked, Running({"completed": completed}), policy, NOW + 4)
        assert decision is not None
        run = decision.run
        ids += [delivery.event.event_id for delivery in decision.deliveries]
    assert ids == [f"{run_id(1)}-progress", f"{run_id(1)}-progress-2"]
    assert run.polls == 2


def test_another_current_task_is_progress_too():
    """Flows count no tasks; they name their step."""
    tracked = watching(started_at=NOW, progress=(None, None, "collect"))
    seen, news = state_machine.observe_execution(tracked, Running({"current": "review"}), POLICY, NOW + 5)
    assert (seen.progress, news) == ((None, None, "review"), True)


def test_success_ends_the_run_with_its_result():
    answer = Succeeded("text", {"a": 1}, {"total_tokens": 5})
    seen, decision = look_and_write(running(), watching(polls=3), answer, POLICY, NOW + 50)
    assert decision is not None
    run = decision.run
    assert (run.state, run.polls, run.started_at, run.finished_at) == (State.SUCCEEDED, 4, NOW + 50, NOW + 50)
    assert (run.outcome.result, run.outcome.result_json, run.outcome.usage) == ("text", {"a": 1}, {"total_tokens": 5})
    assert (run.owner, run.due_at, run.final) == (None, None, True)
    assert event_types(decision.deliveries) == ["run.succeeded"]
    assert seen.polls == 4


def test_failure_ends_the_run_with_the_apis_words():
    _, decision = look_and_write(running(), watching(), Failed("KeyError: 'x'"), POLICY, NOW + 50)
    assert decision is not None
    assert decision.run.outcome.error is not None
    assert (decision.run.state, decision.run.outcome.error.code) == (State.FAILED, "execution_failed")
    assert decision.run.outcome.error.message == "KeyError: 'x'"
    assert event_types(decision.deliveries) == ["run.failed"]


def test_an_end_that_is_seen_after_the_deadline_is_still_that_end():
    _, decision = look_and_write(running(), watching(started_at=NOW), Succeeded("x", None, None), POLICY, NOW + 9999)
    assert decision is not None
    assert decision.run.state is State.SUCCEEDED


# Deadlines and losses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [Running(), Running({"completed": 1}), WaitingForHuman(), Unknown("?"), Pending(), NotFound()]
)
def test_a_look_made_after_the_deadline_that_says_not_over_times_the_run_out(answer: StatusResponse):
    tracked = watching(started_at=NOW, alive_at=NOW + 599)
    _, decision = look_and_write(running(), tracked, answer, POLICY, NOW + 600)
    assert decision is not None
    assert decision.run.state is State.TIMED_OUT
    assert decision.run.outcome.error is not None
    assert decision.run.outcome.error.code == "deadline_exceeded"
    assert event_types(decision.deliveries) == ["run.timed_out"]


@pytest.mark.parametrize(("answer", "errors"), [(NoResponse("HTTP 500"), 1), (CrewUnavailable("HTTP 401"), 0)])
def test_no_statement_after_the_deadline_ends_nothing(answer: StatusResponse, errors: int):
    seen, news = state_machine.observe_execution(watching(started_at=NOW), answer, POLICY, NOW + 9999)
    assert not news
    assert seen.errors == errors


def test_a_look_asked_before_the_deadline_ends_nothing():
    _, news = state_machine.observe_execution(watching(started_at=NOW), Running(), POLICY, NOW + 599.9)
    assert not news


def test_errors_are_counted_in_a_row():
    tracked = watching(started_at=NOW)
    for expected in (1, 2, 3):
        tracked, _ = state_machine.observe_execution(tracked, NoResponse("HTTP 500"), POLICY, NOW + 1)
        assert tracked.errors == expected
    tracked, _ = state_machine.observe_execution(tracked, Running(), POLICY, NOW + 1)
    assert tracked.errors == 0


@pytest.mark.parametrize(
    ("polls", "seconds", "lost"), [(5, 60.0, True), (9, 300.0, True), (4, 300.0, False), (50, 59.9, False)]
)
def test_lost_takes_five_looks_and_a_minute(polls: int, seconds: float, lost: bool):
    tracked = watching(missing=polls - 1)
    _, decision = look_and_write(running(), tracked, NotFound(), POLICY, NOW + seconds)
    assert (decision is not None) is lost
    if decision is not None:
        assert decision.run.outcome.error is not None
        assert (decision.run.state, decision.run.outcome.error.code) == (State.FAILED, "lost")
        assert event_types(decision.deliveries) == ["run.failed"]


@pytest.mark.parametrize("answer", [Pending(), Running(), WaitingForHuman(), Unknown("?")])
def test_any_sign_of_life_starts_the_count_anew(answer: StatusResponse):
    seen, _ = state_machine.observe_execution(watching(missing=4), answer, POLICY, NOW + 500)
    assert (seen.missing, seen.alive_at) == (0, NOW + 500)


def test_a_look_without_a_statement_neither_counts_as_missing_nor_as_alive():
    seen, _ = state_machine.observe_execution(watching(missing=3), NoResponse("HTTP 502"), POLICY, NOW + 30)
    assert (seen.missing, seen.alive_at) == (3, NOW)


def test_a_look_without_a_statement_loses_nothing():
    """Five quick looks did not find it, then the API was away for a while: only a look that sees may say "lost"."""
    seen, news = state_machine.observe_execution(watching(missing=5), NoResponse("HTTP 502"), POLICY, NOW + 61)
    assert not news
    assert state_machine.observe_execution(seen, NotFound(), POLICY, NOW + 62)[1]


def test_where_a_human_may_be_asked_not_found_is_held_until_the_deadline():
    tracked, run = watching(HITL), running()
    tracked, first = look_and_write(run, tracked, NotFound(), HITL, NOW + 1)
    assert first is not None
    assert (first.run.state, tracked.started_at) == (State.RUNNING, NOW + 1)
    for moment in range(2, 600, 20):
        tracked, decision = look_and_write(run, tracked, NotFound(), HITL, NOW + moment)
        assert decision is None
    _, decision = look_and_write(run, tracked, NotFound(), HITL, NOW + 601)
    assert decision is not None
    assert decision.run.state is State.TIMED_OUT


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
@pytest.mark.parametrize("answer", [Succeeded("late", None, None), Failed("late")])
def test_a_late_end_cannot_change_a_final_state(state: State, answer: StatusResponse):
    ended = replace(running(), state=state)
    with pytest.raises(IllegalTransition):
        state_machine.apply_execution_status(ended, watching(), answer, POLICY, NOW)


# Evidence, cancelling, late ends -----------------------------------------------------------------------------------


def cancelled(run: Run | None = None) -> Run:
    return state_machine.on_cancelled(run or running(), POLICY, NOW + 100).run


def test_evidence_brings_a_run_back_for_anybody_to_follow_without_a_second_post():
    decision = state_machine.on_evidence(replace(doubted(), owner="me"), "k-7", POLICY, NOW + 30)
    assert decision is not None
    run = decision.run
    assert (run.state, run.kickoff_id, run.attempt) == (State.RUNNING, "k-7", 1)
    assert (run.due_at, run.owner, run.started_at, decision.deliveries) == (None, None, None, ())


def test_a_run_that_evidence_brought_back_is_told_as_started_to_those_who_want_it():
    wanted = replace(POLICY, extra_events=frozenset({"started"}))
    decision = state_machine.on_evidence(doubted(), "k-7", wanted, NOW)
    assert decision is not None
    assert event_types(decision.deliveries) == ["run.started"]


@pytest.mark.parametrize(
    "run", [a_run(), starting(), running(), state_machine.on_cancelled(running(), POLICY, NOW).run]
)
def test_evidence_changes_nothing_of_a_run_that_has_an_execution_or_awaits_its_first(run: Run):
    assert state_machine.on_evidence(run, "k-7", POLICY, NOW) is None


def test_evidence_that_comes_before_the_repeated_post_makes_it_unnecessary():
    decision = state_machine.on_evidence(state_machine.requeue(doubted(), NOW), "k-7", POLICY, NOW, attempt=1)
    assert decision is not None
    assert (decision.run.state, decision.run.kickoff_id, decision.run.attempt) == (State.RUNNING, "k-7", 1)


def test_evidence_of_an_attempt_that_was_never_made_is_none():
    assert state_machine.on_evidence(doubted(), "k-7", POLICY, NOW, attempt=2) is None


@pytest.mark.parametrize(
    "ended",
    [
        lambda run: state_machine.on_cancelled(run, POLICY, NOW + 5).run,
        lambda run: state_machine.on_abandoned(run, "given up", POLICY, NOW + 5).run,
    ],
)
def test_evidence_of_a_run_that_has_ended_has_its_execution_stopped_and_watched(ended: Callable[[Run], Run]):
    """A cancelled run in doubt left a paid execution running that nobody stopped and nobody heard of."""
    run = ended(doubted())
    decision = state_machine.on_evidence(run, "k-7", POLICY, NOW + 60, attempt=1)
    assert decision is not None
    late = decision.run
    assert (late.state, late.kickoff_id, late.outcome, decision.deliveries) == (run.state, "k-7", run.outcome, ())
    assert late.due_at is not None
    assert late.due_at <= NOW + 60
    assert state_machine.should_be_stopped(late)
    told = state_machine.on_late_poll(late, Succeeded("paid"), POLICY, NOW + 61)
    assert event_types(told.deliveries) == ["run.late_result"]


def test_a_post_is_repeated_by_the_policy_once_and_by_operators_as_often_as_they_like():
    """Ten executions were paid for in twenty seconds."""
    policy = replace(POLICY, in_doubt=DoubtPolicy.RETRY)
    run = doubted(policy)
    states = []
    for by_operator in (False, True, True, False, True, False):
        told = state_machine.on_evidence_overdue(run, policy, NOW + 900)
        assert event_types(told.deliveries) == ["run.in_doubt"]
        again = state_machine.requeue(run, NOW) if by_operator else told.run
        states.append((by_operator, again.state, again.auto_retries))
        again = again if again.state is State.ACCEPTED else state_machine.requeue(again, NOW)
        run = state_machine.on_interrupted_kickoff(state_machine.begin(again, NOW).run, policy, NOW).run
    assert [state for by_operator, state, _ in states if not by_operator] == [
        State.ACCEPTED, State.IN_DOUBT, State.IN_DOUBT,
    ]  # fmt: skip
    assert {count for _, _, count in states} == {1}
    assert run.attempt == 7


def test_a_policy_that_changes_to_retry_repeats_a_post_that_operators_have_repeated_before():
    policy = replace(POLICY, in_doubt=DoubtPolicy.RETRY)
    again = state_machine.requeue(doubted(), NOW)
    run = state_machine.on_interrupted_kickoff(state_machine.begin(again, NOW).run, policy, NOW).run
    assert state_machine.on_evidence_overdue(run, policy, NOW + 900).run.state is State.ACCEPTED


@pytest.mark.parametrize("run", [a_run(), running(), replace(running(), state=State.WAITING_FOR_HUMAN), doubted()])
def test_cancelling_ends_a_run_at_once_and_tells_so(run: Run):
    decision = state_machine.on_cancelled(replace(run, owner="me"), POLICY, NOW + 100)
    ended = decision.run
    assert (ended.state, ended.finished_at, ended.owner) == (State.CANCELLED, NOW + 100, None)
    assert ended.outcome.error is not None
    assert ended.outcome.error.code == "cancelled"
    assert event_types(decision.deliveries) == ["run.cancelled"]


@pytest.mark.parametrize("state", [State.STARTING, *sorted(FINAL_STATES)])
def test_neither_a_post_under_way_nor_an_end_can_be_cancelled(state: State):
    with pytest.raises(IllegalTransition, match=f"{state} -> cancelled"):
        state_machine.on_cancelled(replace(running(), state=state), POLICY, NOW)


def test_a_cancelled_execution_is_to_be_stopped_before_its_first_look_and_not_again():
    run = cancelled()
    assert state_machine.should_be_stopped(run)
    assert not state_machine.should_be_stopped(state_machine.on_late_poll(run, Running(), POLICY, NOW + 101).run)


def test_where_nothing_was_started_nothing_is_to_be_stopped_or_watched():
    run = cancelled(a_run())
    assert not state_machine.should_be_stopped(run)
    assert run.due_at is None


def test_an_execution_that_timed_out_is_watched_and_not_stopped():
    _, decision = look_and_write(running(), watching(started_at=NOW), Running(), POLICY, NOW + 600)
    assert decision is not None
    assert (decision.run.state, decision.run.due_at) == (State.TIMED_OUT, NOW + 600)
    assert not state_machine.should_be_stopped(decision.run)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Succeeded("late", {"n": 1}, {"total_tokens": 5}), ("late", {"n": 1}, {"total_tokens": 5}, None)),
        (Failed("boom"), (None, None, None, {"code": "execution_failed", "message": "boom"})),
    ],
)
def test_a_late_end_is_told_and_changes_nothing_of_the_run(answer: StatusResponse, told: tuple[Any, ...]):
    run = cancelled()
    decision = state_machine.on_late_poll(replace(run, owner="me"), answer, POLICY, NOW + 500)
    assert decision.run == replace(run, due_at=None)  # and is not looked at again
    assert event_types(decision.deliveries) == ["run.late_result"]
    data = json.loads(decision.deliveries[0].event.body)["data"]
    assert tuple(data[name] for name in ("result", "result_json", "usage", "error")) == told
    assert data["state"] == "cancelled"


@pytest.mark.parametrize(
    "answer",
    [Pending(), Running({"completed": 1}), WaitingForHuman(), NotFound(), NoResponse("x"), CrewUnavailable("x")],
)
@pytest.mark.parametrize(("seconds", "due_at"), [(0, NOW + 160), (500, NOW + 1100), (86_401, None)])
def test_until_a_late_end_comes_looks_go_on_for_a_day(answer: StatusResponse, seconds: float, due_at: float | None):
    run = cancelled()
    decision = state_machine.on_late_poll(replace(run, owner="me"), answer, POLICY, NOW + 100 + seconds)
    assert decision == Decision(replace(run, due_at=due_at))


# Histories --------------------------------------------------------------------------------------------------------

KICKOFFS: st.SearchStrategy[KickoffResponse] = st.sampled_from(
    [Started("k-1"), Refused("no"), NotStarted("busy"), NotStarted("busy", 9.0), CrewUnavailable("401"), InDoubt("502")]
)
STATUSES: st.SearchStrategy[StatusResponse] = st.sampled_from(
    [Pending(), Running(), Running({"completed": 1}), Running({"completed": 2}), WaitingForHuman(), NotFound(),
     NotFound(), Unknown("?"), NoResponse("502"), CrewUnavailable("401"), Succeeded("r", None, None), Failed("boom")]
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("begin"), st.none()),
    st.tuples(st.just("kickoff"), KICKOFFS),
    st.tuples(st.just("orphan"), st.none()),
    st.tuples(st.just("doubt"), st.none()),
    st.tuples(st.just("look"), STATUSES),
    st.tuples(st.just("restart"), st.none()),
)
POLICIES = st.builds(
    CrewPolicy,
    deadline=st.sampled_from([5.0, 100.0]),
    in_doubt=st.sampled_from(list(DoubtPolicy)),
    human_input=st.booleans(),
    results_exchange=st.just(True),
    extra_events=st.sampled_from([frozenset[str](), frozenset({"started", "progress"})]),
)


@dataclass
class History:
    """A run and everything that happened to it, driven as the steps would drive it."""

    policy: CrewPolicy
    run: Run = field(default_factory=a_run)
    tracked: TrackedRun | None = None
    now: float = NOW
    path: list[tuple[State, str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def apply(self, what: str, answer: Any, seconds: float) -> None:
        self.now += seconds
        before = self.run
        try:
            decision = self._decide(what, answer)
        except IllegalTransition:
            assert self.run is before  # nothing moved
            return
        if decision is not None:
            self.run = decision.run
            self.told += [delivery.event.event_id for delivery in decision.deliveries]
            self.path.append((before.state, what, answer))

    def _decide(self, what: str, answer: Any) -> Decision | None:
        match what:
            case "begin":
                return state_machine.begin(self.run, self.now)
            case "kickoff":
                return state_machine.on_kickoff(self.run, answer, self.policy, self.now)
            case "orphan":
                return state_machine.on_interrupted_kickoff(self.run, self.policy, self.now)
            case "doubt" if self.run.state is State.IN_DOUBT and self.run.due_at is not None:
                return state_machine.on_evidence_overdue(self.run, self.policy, self.now)
            case "restart":
                self.tracked = None
            case "look" if self.run.kickoff_id is not None:
                return self._look(answer)
        return None

    def _look(self, answer: Any) -> Decision | None:
        tracked = self.tracked or state_machine.tracked_from_run(self.run, self.policy, self.now)
        self.tracked, decision = look_and_write(self.run, tracked, answer, self.policy, self.now)
        return decision if decision is None or self.run.state is State.RUNNING or decision.run.final else None


def final_events(told: Sequence[str]) -> list[str]:
    ends = tuple(f"-{state}" for state in FINAL_STATES)
    return [event_id for event_id in told if event_id.endswith(ends)]


@settings(max_examples=100)
@given(POLICIES, st.lists(st.tuples(STEPS, st.sampled_from([0.0, 1.0, 30.0])), min_size=3, max_size=25))
def test_the_promises_hold_for_any_history(policy: CrewPolicy, steps: list[tuple[tuple[str, Any], float]]):
    history = History(policy)
    states = [history.run.state]
    for (what, answer), seconds in steps:
        history.apply(what, answer, seconds)
        states.append(history.run.state)
        assert len(final_events(history.told)) == int(history.run.final)  # exactly one, with the end and not before
    for before, after in pairwise(states):
        assert before == after or after in TRANSITIONS[before]  # and so never out of a final state
    assert len(set(history.told)) == len(history.told)  # no id is used for two facts
    assert history.run.final == (history.run.finished_at is not None)


@settings(max_examples=100)
@given(POLICIES, st.lists(STEPS, min_size=4, max_size=25))
def test_only_proof_or_policy_leads_back_to_a_second_post(policy: CrewPolicy, steps: list[tuple[str, Any]]):
    history = History(policy)
    for what, answer in steps:
        before = history.run.state
        history.apply(what, answer, 1.0)
        if before in {State.STARTING, State.IN_DOUBT} and history.run.state is State.ACCEPTED:
            proof = what == "kickoff" and isinstance(answer, NotStarted | CrewUnavailable)
            assert proof or (what == "doubt" and policy.in_doubt is DoubtPolicy.RETRY)
    begun = [state for state, what, _ in history.path if what == "begin"]
    assert len(begun) == history.run.attempt


def after(tracked: TrackedRun, answer: StatusResponse, at: float) -> TrackedRun:
    return state_machine.observe_execution(tracked, answer, POLICY, at)[0]


def test_the_age_counts_from_the_last_look_that_found_it_queued():
    queued = after(watching(began_at=NOW), Pending(), NOW + 30)
    started = after(queued, Running(), NOW + 40)
    assert (started.began_at, started.seen_at) == (NOW + 30, NOW + 40)


def test_a_run_that_waited_for_a_human_has_no_age_any_more():
    waited = after(watching(began_at=NOW), WaitingForHuman(), NOW + 30)
    assert after(waited, Running(), NOW + 40).began_at is None


def test_a_task_was_done_halfway_between_two_looks():
    seen = after(watching(seen_at=NOW), Running({"completed": 0}), NOW + 10)
    first = after(seen, Running({"completed": 1}), NOW + 20)
    same = after(first, Running({"completed": 1}), NOW + 30)
    assert after(same, Running({"completed": 3}), NOW + 50).task_marks == ((1, NOW + 15), (3, NOW + 40))


def test_of_a_run_taken_over_only_the_first_look_tells_how_many_tasks_are_done():
    assert after(watching(seen_at=None), Running({"completed": 2}), NOW + 10).task_marks == ((2, NOW + 10),)


def test_a_run_taken_over_is_known_to_be_under_way_only_from_its_first_look_on():
    started = replace(running(), started_at=NOW + 5)
    assert state_machine.tracked_from_run(started, POLICY, NOW + 99).seen_at is None
    assert state_machine.tracked_from_run(running(), POLICY, NOW + 99).seen_at == running().sent_at


# An execution that an operator named ------------------------------------------------------------------------------


def forced(policy: CrewPolicy = POLICY, **changes: Any) -> Run:
    """A run whose operator insists on an execution that the API does not know."""
    decision = state_machine.on_evidence(doubted(policy), "k-wrong", policy, NOW)
    assert decision is not None
    return replace(decision.run, unverified=True, **changes)


def seen_missing(run: Run, policy: CrewPolicy = POLICY, polls: int = 5) -> TrackedRun:
    tracked = state_machine.tracked_from_run(run, policy, NOW)
    for number in range(polls):
        tracked, _ = state_machine.observe_execution(tracked, NotFound(), policy, NOW + 15 * (number + 1))
    return tracked


@pytest.mark.parametrize("told", [0, 1])
def test_a_run_whose_named_execution_was_never_known_is_held_in_doubt_and_not_lost(told: int):
    run = forced(in_doubt_emitted=told)
    decision = state_machine.apply_execution_status(run, seen_missing(run), NotFound(), POLICY, NOW + 75)
    held = decision.run
    assert (held.state, held.kickoff_id, held.unverified, held.due_at) == (State.IN_DOUBT, None, False, None)
    assert (held.in_doubt_emitted, held.outcome) == (1, run.outcome)
    assert event_types(decision.deliveries) == ([] if told else ["run.in_doubt"])


def test_a_run_whose_named_execution_was_never_known_does_not_time_out_either():
    policy = replace(POLICY, human_input=True, deadline=60.0)
    run = forced(policy)
    tracked = seen_missing(run, policy)
    assert state_machine.apply_execution_status(run, tracked, NotFound(), policy, NOW + 90).run.state is State.IN_DOUBT


@pytest.mark.parametrize(
    ("answer", "unverified"),
    [(Pending(), False), (Running(), False), (Unknown("?"), True), (NotFound(), True), (NoResponse("x"), True)],
)
def test_whatever_shows_that_the_api_knows_the_execution_is_written_down(answer: StatusResponse, unverified: bool):
    run = replace(forced(), started_at=NOW)
    seen, news = state_machine.observe_execution(
        state_machine.tracked_from_run(run, POLICY, NOW), answer, POLICY, NOW + 5
    )
    assert (seen.unverified, news) == (unverified, not unverified)
    assert state_machine.apply_execution_status(run, seen, answer, POLICY, NOW + 5).run.unverified is unverified


@pytest.mark.parametrize("completed", [10**400, -1, True, math.nan, math.inf, 1.5, "3", None])
def test_a_count_of_tasks_that_is_no_usable_number_is_none(completed: object) -> None:
    assert progress_key({"completed": completed, "current": "writing"}) == (None, None, "writing")
