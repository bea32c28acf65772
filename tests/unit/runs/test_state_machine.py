"""The state machine: every transition, every end, and the promises that hold for any history."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
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
    TooLarge,
    Unknown,
    WaitingForHuman,
)
from bridge.core.crew_policy import CrewPolicy, DoubtPolicy
from bridge.core.errors import IllegalTransition
from bridge.core.runs import late_results, state_machine, timing, tracking
from bridge.core.runs.changes import Lost, NeverKnown, Progressed, TrackingChange
from bridge.core.runs.model import FINAL_STATES, Decision, Envelope, Progress, Run, State, TrackedRun
from bridge.core.runs.observation import apply_observation, observe
from bridge.core.runs.request import fingerprint
from bridge.core.runs.state_machine import TRANSITIONS
from bridge.core.runs.tracking import progress_key
from tests.fakes import NOW, a_request, a_run, event_types, run_id

POLICY = CrewPolicy(deadline=600.0, results_exchange=True)
HITL = replace(POLICY, human_input=True)
FINAL_TYPES = {f"run.{state}" for state in FINAL_STATES}


def starting(**changes: Any) -> Run:
    return replace(state_machine.begin(replace(a_run(), owner="me"), NOW), **changes)


def running(policy: CrewPolicy = POLICY, **changes: Any) -> Run:
    return replace(state_machine.on_kickoff(starting(), Started("k-1"), policy, NOW).run, **changes)


def in_doubt(policy: CrewPolicy = POLICY) -> Run:
    return state_machine.on_kickoff(starting(), InDoubt("HTTP 502"), policy, NOW).run


def a_tracked_run(policy: CrewPolicy = POLICY, **changes: Any) -> TrackedRun:
    return replace(tracking.tracked_from_run(running(), policy, NOW), **changes)


def poll_and_apply(
    run: Run, tracked: TrackedRun, response: StatusResponse, policy: CrewPolicy, at: float
) -> tuple[TrackedRun, Decision | None]:
    """Apply a status as the polling step does."""
    observation = observe(tracked, response, policy, at)
    return observation.tracked, apply_observation(run, observation, policy) if observation.changes else None


# The table --------------------------------------------------------------------------------------------------------


def test_the_table_has_every_state_and_no_transition_out_of_a_final_one():
    assert set(TRANSITIONS) == set(State)
    assert {state for state, targets in TRANSITIONS.items() if not targets} == FINAL_STATES


def test_every_state_is_reachable_and_every_open_state_leads_to_an_end():
    assert {target for targets in TRANSITIONS.values() for target in targets} | {State.ACCEPTED} == set(State)
    for state in set(State) - FINAL_STATES:
        reached, more = {state}, {state}
        while more := {target for source in more for target in TRANSITIONS[source]} - reached:
            reached |= more
        assert reached & FINAL_STATES


# Accept and begin -------------------------------------------------------------------------------------------------


def test_an_accepted_run_is_due_at_once_and_has_its_fingerprint():
    envelope = Envelope("queue", reply_to="reply.a")
    run = state_machine.accept(a_request(), envelope, run_id(7), NOW)
    assert (run.run_id, run.state, run.accepted_at, run.due_at) == (run_id(7), State.ACCEPTED, NOW, NOW)
    assert (run.fingerprint, run.envelope, run.crew) == (fingerprint(a_request()), envelope, "research")
    assert not run.final


def test_begin_records_the_attempt_before_the_post():
    run = state_machine.begin(replace(a_run(), owner="me", attempt=2), NOW + 9)
    assert (run.state, run.attempt, run.sent_at, run.due_at, run.owner) == (State.STARTING, 3, NOW + 9, None, "me")


@pytest.mark.parametrize("state", sorted(set(State) - {State.ACCEPTED}))
def test_only_an_accepted_run_can_begin(state: State):
    with pytest.raises(IllegalTransition, match=f"{state} -> starting"):
        state_machine.begin(replace(a_run(), state=state), NOW)


# The response to the kickoff ----------------------------------------------------------------------------------------


def test_a_started_run_keeps_its_owner_and_its_execution_id():
    decision = state_machine.on_kickoff(starting(), Started("k-9"), POLICY, NOW + 2)
    assert (decision.run.state, decision.run.kickoff_id, decision.run.owner) == (State.RUNNING, "k-9", "me")
    assert decision.run.started_at is None  # the deadline counts from the first poll that sees the execution started
    assert decision.deliveries == ()


def test_the_started_event_is_sent_where_requested():
    with_event = replace(POLICY, optional_events=frozenset({"started"}))
    decision = state_machine.on_kickoff(starting(), Started("k-9"), with_event, NOW)
    assert event_types(decision.deliveries) == ["run.started"]


def test_a_refusal_ends_the_run():
    decision = state_machine.on_kickoff(starting(), Refused("HTTP 422: no"), POLICY, NOW + 2)
    run = decision.run
    assert (run.state, run.finished_at, run.owner, run.due_at) == (State.FAILED, NOW + 2, None, None)
    assert run.outcome.error is not None
    assert (run.outcome.error.code, run.outcome.error.message) == ("refused", "HTTP 422: no")
    assert event_types(decision.deliveries) == ["run.failed"]


@pytest.mark.parametrize("after", [None, 500.0])
def test_a_run_that_was_not_started_is_released_and_due_later(after: float | None):
    decision = state_machine.on_kickoff(starting(), NotStarted("refused", after), POLICY, NOW)
    run = decision.run
    assert (run.state, run.owner, decision.deliveries) == (State.ACCEPTED, None, ())
    assert run.due_at == timing.next_kickoff_at(run.run_id, 1, NOW, after)


def test_an_unavailable_crew_delays_its_runs():
    run = state_machine.on_kickoff(starting(), CrewUnavailable("HTTP 401"), POLICY, NOW).run
    assert (run.state, run.due_at, run.owner) == (State.ACCEPTED, NOW + timing.UNAVAILABLE_DELAY, None)


def test_an_ambiguous_response_puts_the_run_in_doubt():
    decision = state_machine.on_kickoff(starting(), InDoubt("reset"), POLICY, NOW)
    run = decision.run
    assert (run.state, run.owner, run.due_at) == (State.IN_DOUBT, None, NOW + POLICY.in_doubt_after)
    assert decision.deliveries == ()


@pytest.mark.parametrize("response", [Started("k"), NotStarted("x"), CrewUnavailable("x"), InDoubt("x")])
@pytest.mark.parametrize("state", [State.RUNNING, *sorted(FINAL_STATES)])
def test_a_response_to_a_kickoff_that_is_not_in_flight_changes_nothing(state: State, response: KickoffResponse):
    with pytest.raises(IllegalTransition):
        state_machine.on_kickoff(replace(running(), state=state), response, POLICY, NOW)


# In doubt ---------------------------------------------------------------------------------------------------------


def test_a_run_whose_process_died_while_starting_is_in_doubt():
    run = state_machine.on_interrupted_kickoff(starting(), POLICY, NOW + 1).run
    assert (run.state, run.due_at, run.owner) == (State.IN_DOUBT, NOW + 1 + POLICY.in_doubt_after, None)


@pytest.mark.parametrize("state", sorted(set(State) - {State.STARTING}))
def test_only_a_starting_run_can_be_orphaned(state: State):
    with pytest.raises(IllegalTransition):
        state_machine.on_interrupted_kickoff(replace(running(), state=state), POLICY, NOW)


def test_hold_reports_once_and_waits_for_an_operator():
    decision = state_machine.on_evidence_overdue(in_doubt(), POLICY, NOW + 900)
    assert (decision.run.state, decision.run.due_at, decision.run.owner) == (State.IN_DOUBT, None, None)
    assert event_types(decision.deliveries) == ["run.in_doubt"]


def test_retry_reports_and_starts_again():
    policy = replace(POLICY, in_doubt=DoubtPolicy.RETRY)
    decision = state_machine.on_evidence_overdue(in_doubt(policy), policy, NOW + 900)
    assert (decision.run.state, decision.run.due_at, decision.run.owner) == (State.ACCEPTED, NOW + 900, None)
    assert event_types(decision.deliveries) == ["run.in_doubt"]


def test_fail_reports_and_ends_the_run():
    policy = replace(POLICY, in_doubt=DoubtPolicy.FAIL)
    decision = state_machine.on_evidence_overdue(in_doubt(policy), policy, NOW + 900)
    assert decision.run.state is State.FAILED
    assert decision.run.outcome.error is not None
    assert decision.run.outcome.error.code == "abandoned"
    assert event_types(decision.deliveries) == ["run.in_doubt", "run.failed"]


def test_the_in_doubt_event_precedes_its_consequence():
    """Events are listed by time; both had the same one."""
    policy = replace(POLICY, in_doubt=DoubtPolicy.FAIL)
    doubt, end = state_machine.on_evidence_overdue(in_doubt(policy), policy, NOW + 900).deliveries
    assert doubt.event.created_at < end.event.created_at == NOW + 900
    assert json.loads(doubt.event.body)["time"] < json.loads(end.event.body)["time"]


def test_a_second_doubt_is_another_event():
    ids = [
        state_machine.on_evidence_overdue(replace(in_doubt(), attempt=attempt), POLICY, NOW)
        .deliveries[0]
        .event.event_id
        for attempt in (1, 2)
    ]
    assert len(set(ids)) == 2


# Polling ------------------------------------------------------------------------------------------------------------


def test_a_tracked_run_has_everything_that_a_poll_needs():
    run = running(polls=7, started_at=NOW + 3, progress={"completed": 2})
    tracked = tracking.tracked_from_run(run, POLICY, NOW + 5)
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
    assert a_tracked_run().deadline_at is None


def test_the_deadline_of_the_request_takes_precedence():
    run = replace(running(), request=a_request(deadline=5.0))
    assert tracking.tracked_from_run(run, POLICY, NOW).deadline == 5.0


@pytest.mark.parametrize("response", [Running(), Running({"completed": 0}), WaitingForHuman(), Unknown("?")])
def test_the_first_poll_that_sees_the_execution_started_starts_the_deadline(response: StatusResponse):
    observation = observe(a_tracked_run(), response, POLICY, NOW + 4)
    assert TrackingChange.FIRST_SEEN in observation.changes
    seen = observation.tracked
    assert (seen.started_at, seen.alive_at, seen.polls) == (NOW + 4, NOW + 4, 1)


@pytest.mark.parametrize(
    "response",
    [
        Running(),
        Running({"completed": 1}),
        Running({"total": 3}),
        Running({"completed": "?"}),
        Pending(),
        NoResponse("x"),
    ],
)
def test_a_poll_without_a_change_writes_nothing(response: StatusResponse):
    tracked = a_tracked_run(started_at=NOW, progress=(1, None, None))
    observation = observe(tracked, response, POLICY, NOW + 4)
    seen, changes = observation.tracked, observation.changes
    assert not changes
    assert (seen.started_at, seen.progress, seen.polls) == (NOW, (1, None, None), 1)


def test_a_queued_execution_does_not_start_the_deadline():
    observation = observe(a_tracked_run(), Pending(), POLICY, NOW + 10_000)
    seen, changes = observation.tracked, observation.changes
    assert not changes
    assert (seen.started_at, seen.alive_at) == (None, NOW + 10_000)


def test_progress_is_written_and_reported_where_requested():
    tracked, run = a_tracked_run(started_at=NOW, progress=(1, None, None), polls=8), running(polls=8)
    seen, silent = poll_and_apply(run, tracked, Running({"completed": 2}), POLICY, NOW + 4)
    assert silent == Decision(replace(run, polls=9, started_at=NOW, progress={"completed": 2}))
    assert seen.progress == (2, None, None)
    _, reported = poll_and_apply(
        run, tracked, Running({"completed": 2}), replace(POLICY, optional_events=frozenset({"progress"})), NOW + 4
    )
    assert reported is not None
    assert [delivery.event.event_id for delivery in reported.deliveries] == [f"{run_id(1)}-progress-9"]


def test_progress_is_reported_once_per_change_and_at_most_once_a_second():
    policy = replace(POLICY, optional_events=frozenset({"progress"}))
    run, tracked, reported = running(), a_tracked_run(started_at=NOW), []
    for seconds, completed in [(10.0, 1), (10.5, 2), (10.9, 2), (11.0, 2), (13.0, 2), (15.0, 3)]:
        tracked, decision = poll_and_apply(run, tracked, Running({"completed": completed}), policy, NOW + seconds)
        if decision is not None:
            run = decision.run
            reported += [(seconds, completed)] * len(decision.deliveries)
    assert reported == [(10.0, 1), (11.0, 2), (15.0, 3)]


@pytest.mark.parametrize("known", [None, (3, None, None)])
@pytest.mark.parametrize("response", [Running(), Running({"total": 3})])
def test_a_status_without_progress_keeps_the_stored_progress(response: StatusResponse, known: Progress | None):
    policy = replace(POLICY, optional_events=frozenset({"progress"}))
    run = running(progress={"completed": 3}, polls=2)
    seen, decision = poll_and_apply(run, a_tracked_run(progress=known), response, policy, NOW + 4)
    assert seen.progress == known
    assert decision == Decision(replace(run, polls=3, started_at=NOW + 4))


def test_a_stale_tracked_run_never_reuses_an_event_id():
    """Two polls may begin with the same count; the one stored second must not reuse the number of the first."""
    policy = replace(POLICY, optional_events=frozenset({"progress"}))
    tracked, ids = a_tracked_run(started_at=NOW), list[str]()
    run = running()
    for completed in (1, 2):
        _, decision = poll_and_apply(run, tracked, Running({"completed": completed}), policy, NOW + 4)
        assert decision is not None
        run = decision.run
        ids += [delivery.event.event_id for delivery in decision.deliveries]
    assert ids == [f"{run_id(1)}-progress", f"{run_id(1)}-progress-2"]
    assert run.polls == 2


def test_progress_stored_by_another_poll_is_not_reported_again():
    policy = replace(POLICY, optional_events=frozenset({"progress"}))
    observation = observe(a_tracked_run(started_at=NOW), Running({"completed": 2}), policy, NOW + 4)
    decision = apply_observation(running(started_at=NOW, progress={"completed": 2}), observation, policy)
    assert event_types(decision.deliveries) == []


def test_another_current_task_is_progress():
    """Flows count no tasks; they name the current step."""
    tracked = a_tracked_run(started_at=NOW, progress=(None, None, "collect"))
    observation = observe(tracked, Running({"current": "review"}), POLICY, NOW + 5)
    seen, changes = observation.tracked, observation.changes
    assert (seen.progress, changes) == ((None, None, "review"), (Progressed({"current": "review"}),))


def test_success_ends_the_run_with_its_result():
    response = Succeeded("text", {"a": 1}, {"total_tokens": 5})
    seen, decision = poll_and_apply(running(), a_tracked_run(polls=3), response, POLICY, NOW + 50)
    assert decision is not None
    run = decision.run
    assert (run.state, run.polls, run.started_at, run.finished_at) == (State.SUCCEEDED, 4, NOW + 50, NOW + 50)
    assert (run.outcome.result, run.outcome.result_json, run.outcome.usage) == ("text", {"a": 1}, {"total_tokens": 5})
    assert (run.owner, run.due_at, run.final) == (None, None, True)
    assert event_types(decision.deliveries) == ["run.succeeded"]
    assert seen.polls == 4


def test_failure_ends_the_run_with_the_message_of_the_api():
    _, decision = poll_and_apply(running(), a_tracked_run(), Failed("KeyError: 'x'"), POLICY, NOW + 50)
    assert decision is not None
    assert decision.run.outcome.error is not None
    assert (decision.run.state, decision.run.outcome.error.code) == (State.FAILED, "execution_failed")
    assert decision.run.outcome.error.message == "KeyError: 'x'"
    assert event_types(decision.deliveries) == ["run.failed"]


def test_an_end_seen_after_the_deadline_counts_as_that_end():
    _, decision = poll_and_apply(
        running(), a_tracked_run(started_at=NOW), Succeeded("x", None, None), POLICY, NOW + 9999
    )
    assert decision is not None
    assert decision.run.state is State.SUCCEEDED


# Deadlines and lost runs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response",
    [Running(), WaitingForHuman(), Unknown("?"), TooLarge(succeeded=False), Pending(), NotFound()],
)
def test_a_poll_sent_after_the_deadline_that_finds_no_end_times_the_run_out(response: StatusResponse):
    tracked = a_tracked_run(started_at=NOW, alive_at=NOW + 599)
    _, decision = poll_and_apply(running(), tracked, response, POLICY, NOW + 600)
    assert decision is not None
    assert decision.run.state is State.TIMED_OUT
    assert decision.run.outcome.error is not None
    assert decision.run.outcome.error.code == "deadline_exceeded"
    assert event_types(decision.deliveries) == ["run.timed_out"]


@pytest.mark.parametrize(("response", "errors"), [(NoResponse("HTTP 500"), 1), (CrewUnavailable("HTTP 401"), 0)])
def test_a_poll_without_a_response_never_times_a_run_out(response: StatusResponse, errors: int):
    observation = observe(a_tracked_run(started_at=NOW), response, POLICY, NOW + 9999)
    seen, changes = observation.tracked, observation.changes
    assert not changes
    assert seen.errors == errors


def test_a_poll_sent_before_the_deadline_never_times_a_run_out():
    changes = observe(a_tracked_run(started_at=NOW), Running(), POLICY, NOW + 599.9).changes
    assert not changes


def test_consecutive_errors_are_counted():
    tracked = a_tracked_run(started_at=NOW)
    for expected in (1, 2, 3):
        tracked = observe(tracked, NoResponse("HTTP 500"), POLICY, NOW + 1).tracked
        assert tracked.errors == expected
    tracked = observe(tracked, Running(), POLICY, NOW + 1).tracked
    assert tracked.errors == 0


@pytest.mark.parametrize(
    ("polls", "seconds", "lost"), [(5, 60.0, True), (9, 300.0, True), (4, 300.0, False), (50, 59.9, False)]
)
def test_a_run_is_lost_after_five_polls_and_a_minute_of_not_found(polls: int, seconds: float, lost: bool):
    tracked = a_tracked_run(missing=polls - 1)
    _, decision = poll_and_apply(running(), tracked, NotFound(), POLICY, NOW + seconds)
    assert (decision is not None) is lost
    if decision is not None:
        assert decision.run.outcome.error is not None
        assert (decision.run.state, decision.run.outcome.error.code) == (State.FAILED, "lost")
        assert event_types(decision.deliveries) == ["run.failed"]


@pytest.mark.parametrize("response", [Pending(), Running(), WaitingForHuman(), Unknown("?")])
def test_any_other_status_restarts_the_count(response: StatusResponse):
    seen = observe(a_tracked_run(missing=4), response, POLICY, NOW + 500).tracked
    assert (seen.missing, seen.alive_at) == (0, NOW + 500)


def test_a_poll_without_a_response_does_not_change_the_count():
    seen = observe(a_tracked_run(missing=3), NoResponse("HTTP 502"), POLICY, NOW + 30).tracked
    assert (seen.missing, seen.alive_at) == (3, NOW)


def test_a_poll_without_a_response_never_loses_a_run():
    """Five quick polls did not find it, then the API was unavailable: only a poll with a response may lose a run."""
    observation = observe(a_tracked_run(missing=5), NoResponse("HTTP 502"), POLICY, NOW + 61)
    seen, changes = observation.tracked, observation.changes
    assert not changes
    assert observe(seen, NotFound(), POLICY, NOW + 62).changes == (Lost(),)


def test_with_human_input_not_found_is_tolerated_until_the_deadline():
    tracked, run = a_tracked_run(HITL), running()
    tracked, first = poll_and_apply(run, tracked, NotFound(), HITL, NOW + 1)
    assert first is not None
    assert (first.run.state, tracked.started_at) == (State.RUNNING, NOW + 1)
    for moment in range(2, 600, 20):
        tracked, decision = poll_and_apply(run, tracked, NotFound(), HITL, NOW + moment)
        assert decision is None or decision.run.state is State.WAITING_FOR_HUMAN
    _, decision = poll_and_apply(run, tracked, NotFound(), HITL, NOW + 601)
    assert decision is not None
    assert decision.run.state is State.TIMED_OUT


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
@pytest.mark.parametrize("response", [Succeeded("late", None, None), Failed("late")])
def test_a_late_end_cannot_change_a_final_state(state: State, response: StatusResponse):
    ended = replace(running(), state=state)
    with pytest.raises(IllegalTransition):
        apply_observation(ended, observe(a_tracked_run(), response, POLICY, NOW), POLICY)


# Evidence, cancelling, late ends -----------------------------------------------------------------------------------


def cancelled(run: Run | None = None) -> Run:
    return state_machine.on_cancelled(run or running(), POLICY, NOW + 100).run


def test_evidence_releases_the_run_for_tracking_without_a_second_post():
    decision = state_machine.on_evidence(replace(in_doubt(), owner="me"), "k-7", POLICY, NOW + 30)
    assert decision is not None
    run = decision.run
    assert (run.state, run.kickoff_id, run.attempt) == (State.RUNNING, "k-7", 1)
    assert (run.due_at, run.owner, run.started_at, decision.deliveries) == (None, None, None, ())


def test_a_run_found_by_evidence_reports_started_where_requested():
    with_event = replace(POLICY, optional_events=frozenset({"started"}))
    decision = state_machine.on_evidence(in_doubt(), "k-7", with_event, NOW)
    assert decision is not None
    assert event_types(decision.deliveries) == ["run.started"]


@pytest.mark.parametrize(
    "run", [a_run(), starting(), running(), state_machine.on_cancelled(running(), POLICY, NOW).run]
)
def test_evidence_for_a_run_with_an_execution_or_before_its_first_post_changes_nothing(run: Run):
    assert state_machine.on_evidence(run, "k-7", POLICY, NOW) is None


def test_evidence_before_a_repeated_post_makes_it_unnecessary():
    decision = state_machine.on_evidence(state_machine.requeue(in_doubt(), NOW), "k-7", POLICY, NOW, attempt=1)
    assert decision is not None
    assert (decision.run.state, decision.run.kickoff_id, decision.run.attempt) == (State.RUNNING, "k-7", 1)


@pytest.mark.parametrize(
    "ended",
    [
        lambda run: state_machine.on_cancelled(run, POLICY, NOW + 5).run,
        lambda run: state_machine.on_abandoned(run, "given up", POLICY, NOW + 5).run,
    ],
)
def test_evidence_for_an_ended_run_stops_its_execution_and_keeps_polling_it(ended: Callable[[Run], Run]):
    """The paid execution of a run that was cancelled in doubt went on, neither stopped nor reported."""
    run = ended(in_doubt())
    decision = state_machine.on_evidence(run, "k-7", POLICY, NOW + 60, attempt=1)
    assert decision is not None
    late = decision.run
    assert (late.state, late.kickoff_id, late.outcome, decision.deliveries) == (run.state, "k-7", run.outcome, ())
    assert late.due_at is not None
    assert late.due_at <= NOW + 60
    assert late_results.should_be_stopped(late)
    reported = late_results.on_poll(late, Succeeded("paid"), POLICY, NOW + 61)
    assert event_types(reported.deliveries) == ["run.late_result"]


def test_the_policy_repeats_a_post_once_and_operators_without_limit():
    """Ten executions were paid for in twenty seconds."""
    policy = replace(POLICY, in_doubt=DoubtPolicy.RETRY)
    run = in_doubt(policy)
    states = []
    for by_operator in (False, True, True, False, True, False):
        reported = state_machine.on_evidence_overdue(run, policy, NOW + 900)
        assert event_types(reported.deliveries) == ["run.in_doubt"]
        again = state_machine.requeue(run, NOW) if by_operator else reported.run
        states.append((by_operator, again.state, again.auto_retries))
        again = again if again.state is State.ACCEPTED else state_machine.requeue(again, NOW)
        run = state_machine.on_interrupted_kickoff(state_machine.begin(again, NOW), policy, NOW).run
    assert [state for by_operator, state, _ in states if not by_operator] == [
        State.ACCEPTED, State.IN_DOUBT, State.IN_DOUBT,
    ]  # fmt: skip
    assert {count for _, _, count in states} == {1}
    assert run.attempt == 7


def test_a_changed_policy_repeats_a_post_that_an_operator_repeated_before():
    policy = replace(POLICY, in_doubt=DoubtPolicy.RETRY)
    again = state_machine.requeue(in_doubt(), NOW)
    run = state_machine.on_interrupted_kickoff(state_machine.begin(again, NOW), policy, NOW).run
    assert state_machine.on_evidence_overdue(run, policy, NOW + 900).run.state is State.ACCEPTED


@pytest.mark.parametrize("run", [a_run(), running(), replace(running(), state=State.WAITING_FOR_HUMAN), in_doubt()])
def test_cancelling_ends_a_run_at_once_with_an_event(run: Run):
    decision = state_machine.on_cancelled(replace(run, owner="me"), POLICY, NOW + 100)
    ended = decision.run
    assert (ended.state, ended.finished_at, ended.owner) == (State.CANCELLED, NOW + 100, None)
    assert ended.outcome.error is not None
    assert ended.outcome.error.code == "cancelled"
    assert event_types(decision.deliveries) == ["run.cancelled"]


@pytest.mark.parametrize("state", [State.STARTING, *sorted(FINAL_STATES)])
def test_a_run_with_a_post_in_flight_or_an_ended_run_cannot_be_cancelled(state: State):
    with pytest.raises(IllegalTransition, match=f"{state} -> cancelled"):
        state_machine.on_cancelled(replace(running(), state=state), POLICY, NOW)


def test_the_execution_of_a_cancelled_run_is_stopped_once_before_its_first_late_poll():
    run = cancelled()
    assert late_results.should_be_stopped(run)
    assert not late_results.should_be_stopped(late_results.on_poll(run, Running(), POLICY, NOW + 101).run)


def test_without_an_execution_nothing_is_stopped_or_polled():
    run = cancelled(a_run())
    assert not late_results.should_be_stopped(run)
    assert run.due_at is None


def test_the_execution_of_a_timed_out_run_is_polled_and_not_stopped():
    _, decision = poll_and_apply(running(), a_tracked_run(started_at=NOW), Running(), POLICY, NOW + 600)
    assert decision is not None
    assert (decision.run.state, decision.run.due_at) == (State.TIMED_OUT, NOW + 600)
    assert not late_results.should_be_stopped(decision.run)


@pytest.mark.parametrize(
    ("response", "reported"),
    [
        (Succeeded("late", {"n": 1}, {"total_tokens": 5}), ("late", {"n": 1}, {"total_tokens": 5}, None)),
        (Failed("boom"), (None, None, None, {"code": "execution_failed", "message": "boom"})),
    ],
)
def test_a_late_end_is_reported_and_does_not_change_the_run(response: StatusResponse, reported: tuple[Any, ...]):
    run = cancelled()
    decision = late_results.on_poll(replace(run, owner="me"), response, POLICY, NOW + 500)
    history = decision.run.history
    assert decision.run == replace(run, due_at=None, history=history)  # and is not polled again
    assert event_types(decision.deliveries) == ["run.late_result"]
    data = json.loads(decision.deliveries[0].event.body)["data"]
    assert tuple(data[name] for name in ("result", "result_json", "usage", "error")) == reported
    assert data["state"] == "cancelled"


@pytest.mark.parametrize(
    "response",
    [Pending(), Running({"completed": 1}), WaitingForHuman(), NotFound(), NoResponse("x"), CrewUnavailable("x")],
)
@pytest.mark.parametrize(("seconds", "due_at"), [(0, NOW + 160), (500, NOW + 1100), (86_401, None)])
def test_late_polls_continue_for_a_day(response: StatusResponse, seconds: float, due_at: float | None):
    run = cancelled()
    decision = late_results.on_poll(replace(run, owner="me"), response, POLICY, NOW + 100 + seconds)
    assert decision == Decision(replace(run, due_at=due_at))


# Histories --------------------------------------------------------------------------------------------------------

KICKOFFS: st.SearchStrategy[KickoffResponse] = st.sampled_from(
    [Started("k-1"), Refused("no"), NotStarted("busy"), NotStarted("busy", 9.0), CrewUnavailable("401"), InDoubt("502")]
)
STATUSES: st.SearchStrategy[StatusResponse] = st.sampled_from(
    [Pending(), Running(), Running({"completed": 1}), Running({"completed": 2}), WaitingForHuman(), NotFound(),
     NotFound(), Unknown("?"), TooLarge(succeeded=False), TooLarge(succeeded=True), NoResponse("502"),
     CrewUnavailable("401"), Succeeded("r", None, None), Failed("boom")]
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("begin"), st.none()),
    st.tuples(st.just("kickoff"), KICKOFFS),
    st.tuples(st.just("orphan"), st.none()),
    st.tuples(st.just("doubt"), st.none()),
    st.tuples(st.just("poll"), STATUSES),
    st.tuples(st.just("restart"), st.none()),
)
POLICIES = st.builds(
    CrewPolicy,
    deadline=st.sampled_from([5.0, 100.0]),
    in_doubt=st.sampled_from(list(DoubtPolicy)),
    human_input=st.booleans(),
    results_exchange=st.just(True),
    optional_events=st.sampled_from([frozenset[str](), frozenset({"started", "progress"})]),
)


@dataclass
class History:
    """A run and its history, driven as the steps drive it."""

    policy: CrewPolicy
    run: Run = field(default_factory=a_run)
    tracked: TrackedRun | None = None
    now: float = NOW
    path: list[tuple[State, str, Any]] = field(default_factory=list)
    reported: list[str] = field(default_factory=list)

    def apply(self, what: str, response: Any, seconds: float) -> None:
        self.now += seconds
        before = self.run
        try:
            decision = self._decide(what, response)
        except IllegalTransition:
            assert self.run is before  # no transition
            return
        if decision is not None:
            self.run = decision.run
            self.reported += [delivery.event.event_id for delivery in decision.deliveries]
            self.path.append((before.state, what, response))

    def _decide(self, what: str, response: Any) -> Decision | None:
        match what:
            case "begin":
                return Decision(state_machine.begin(self.run, self.now))
            case "kickoff":
                return state_machine.on_kickoff(self.run, response, self.policy, self.now)
            case "orphan":
                return state_machine.on_interrupted_kickoff(self.run, self.policy, self.now)
            case "doubt" if self.run.state is State.IN_DOUBT and self.run.due_at is not None:
                return state_machine.on_evidence_overdue(self.run, self.policy, self.now)
            case "restart":
                self.tracked = None
            case "poll" if self.run.kickoff_id is not None:
                return self._poll(response)
        return None

    def _poll(self, response: Any) -> Decision | None:
        tracked = self.tracked or tracking.tracked_from_run(self.run, self.policy, self.now)
        self.tracked, decision = poll_and_apply(self.run, tracked, response, self.policy, self.now)
        return decision if decision is None or self.run.state is State.RUNNING or decision.run.final else None


def final_events(reported: Sequence[str]) -> list[str]:
    ends = tuple(f"-{state}" for state in FINAL_STATES)
    return [event_id for event_id in reported if event_id.endswith(ends)]


@given(POLICIES, st.lists(st.tuples(STEPS, st.sampled_from([0.0, 1.0, 30.0])), min_size=3, max_size=25))
def test_the_promises_hold_for_any_history(policy: CrewPolicy, steps: list[tuple[tuple[str, Any], float]]):
    history = History(policy)
    states = [history.run.state]
    for (what, response), seconds in steps:
        history.apply(what, response, seconds)
        states.append(history.run.state)
        assert len(final_events(history.reported)) == int(history.run.final)  # exactly one, together with the end
    for before, after in pairwise(states):
        assert before == after or after in TRANSITIONS[before]  # so never a transition out of a final state
    assert len(set(history.reported)) == len(history.reported)  # no id is used for two events
    assert history.run.final == (history.run.finished_at is not None)


@given(POLICIES, st.lists(STEPS, min_size=4, max_size=25))
def test_only_proof_or_policy_permits_a_second_post(policy: CrewPolicy, steps: list[tuple[str, Any]]):
    history = History(policy)
    for what, response in steps:
        before = history.run.state
        history.apply(what, response, 1.0)
        if before in {State.STARTING, State.IN_DOUBT} and history.run.state is State.ACCEPTED:
            proof = what == "kickoff" and isinstance(response, NotStarted | CrewUnavailable)
            assert proof or (what == "doubt" and policy.in_doubt is DoubtPolicy.RETRY)
    begun = [state for state, what, _ in history.path if what == "begin"]
    assert len(begun) == history.run.attempt


def after(tracked: TrackedRun, response: StatusResponse, at: float) -> TrackedRun:
    return observe(tracked, response, POLICY, at).tracked


def test_the_age_counts_from_the_last_poll_that_found_the_run_queued():
    queued = after(a_tracked_run(began_at=NOW), Pending(), NOW + 30)
    started = after(queued, Running(), NOW + 40)
    assert (started.began_at, started.seen_at) == (NOW + 30, NOW + 40)


def test_a_run_that_waited_for_a_human_has_no_age():
    waited = after(a_tracked_run(began_at=NOW), WaitingForHuman(), NOW + 30)
    assert after(waited, Running(), NOW + 40).began_at is None


def test_a_task_ended_halfway_between_two_polls():
    seen = after(a_tracked_run(seen_at=NOW), Running({"completed": 0}), NOW + 10)
    first = after(seen, Running({"completed": 1}), NOW + 20)
    same = after(first, Running({"completed": 1}), NOW + 30)
    assert after(same, Running({"completed": 3}), NOW + 50).task_marks == ((1, NOW + 15), (3, NOW + 40))


def test_the_first_poll_of_a_recovered_run_only_sets_the_task_count():
    assert after(a_tracked_run(seen_at=None), Running({"completed": 2}), NOW + 10).task_marks == ((2, NOW + 10),)


def test_a_recovered_run_is_known_to_run_from_its_first_poll():
    started = replace(running(), started_at=NOW + 5)
    assert tracking.tracked_from_run(started, POLICY, NOW + 99).seen_at is None
    assert tracking.tracked_from_run(running(), POLICY, NOW + 99).seen_at == running().sent_at


# Adopted executions -------------------------------------------------------------------------------------------------


def adopted(policy: CrewPolicy = POLICY, **changes: Any) -> Run:
    """A run with an adopted execution that the API does not know."""
    decision = state_machine.on_evidence(in_doubt(policy), "k-wrong", policy, NOW)
    assert decision is not None
    return replace(decision.run, unverified=True, **changes)


def seen_missing(run: Run, policy: CrewPolicy = POLICY, polls: int = 5) -> TrackedRun:
    tracked = tracking.tracked_from_run(run, policy, NOW)
    for number in range(polls):
        tracked = observe(tracked, NotFound(), policy, NOW + 15 * (number + 1)).tracked
    return tracked


@pytest.mark.parametrize("reported", [0, 1])
def test_a_run_whose_adopted_execution_was_never_found_returns_to_in_doubt(reported: int):
    run = adopted(in_doubt_emitted=reported)
    decision = apply_observation(run, observe(seen_missing(run), NotFound(), POLICY, NOW + 75), POLICY)
    held = decision.run
    assert (held.state, held.kickoff_id, held.unverified, held.due_at) == (State.IN_DOUBT, None, False, None)
    assert (held.in_doubt_emitted, held.outcome) == (1, run.outcome)
    assert event_types(decision.deliveries) == ([] if reported else ["run.in_doubt"])


def test_a_run_whose_adopted_execution_was_never_found_does_not_time_out():
    policy = replace(POLICY, human_input=True, deadline=60.0)
    run = adopted(policy)
    tracked = seen_missing(run, policy)
    observation = observe(tracked, NotFound(), policy, NOW + 90)
    assert observation.changes == (NeverKnown(),)
    assert apply_observation(run, observation, policy).run.state is State.IN_DOUBT


@pytest.mark.parametrize(
    ("response", "unverified"),
    [(Pending(), False), (Running(), False), (TooLarge(succeeded=False), False), (Unknown("?"), True),
     (NotFound(), True), (NoResponse("x"), True)],
)  # fmt: skip
def test_any_status_other_than_not_found_verifies_an_adopted_execution(response: StatusResponse, unverified: bool):
    run = replace(adopted(), started_at=NOW)
    observation = observe(tracking.tracked_from_run(run, POLICY, NOW), response, POLICY, NOW + 5)
    assert observation.changes == (() if unverified else (TrackingChange.VERIFIED,))
    assert apply_observation(run, observation, POLICY).run.unverified is unverified


@pytest.mark.parametrize("completed", [10**400, -1, True, math.nan, math.inf, 1.5, "3", None])
def test_an_invalid_task_count_is_none(completed: object) -> None:
    assert progress_key({"completed": completed, "current": "writing"}) == (None, None, "writing")
