"""Handling of a run whose step raised an unexpected exception."""

from dataclasses import replace

import pytest

from bridge.core.crew.responses import NoResponse, Running, Started, StatusResponse
from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery.model import DeliveryState
from bridge.core.delivery.outcome import on_internal_error
from bridge.core.human_input import rules
from bridge.core.human_input.model import HumanInput, Question, QuestionStage
from bridge.core.runs import quarantine, state_machine, tracking
from bridge.core.runs.changes import TrackingChange
from bridge.core.runs.model import Decision, Run, State
from bridge.core.runs.observation import apply_observation, observe
from bridge.core.runs.timing import DELAYS
from tests.fakes import NOW, a_delivery, a_run

POLICY = CrewPolicy(in_doubt_after=900.0)


def in_state(state: State, **changes: object) -> Run:
    run = replace(a_run(), state=state, owner="me", kickoff_id="k-1", started_at=NOW, finished_at=None)
    return replace(run, **changes)  # type: ignore[arg-type]


def deferred(run: Run, now: float = NOW) -> Run:
    decision = quarantine.defer(run, POLICY, now)
    assert decision is not None
    assert decision == Decision(decision.run), "an internal error is no event"
    return decision.run


@pytest.mark.parametrize("state", [State.ACCEPTED, State.RUNNING, State.WAITING_FOR_HUMAN, State.IN_DOUBT])
def test_a_run_is_released_and_due_again_after_a_growing_delay(state: State) -> None:
    first = deferred(in_state(state))
    again = deferred(first, NOW + 60.0)
    assert (first.state, first.owner, first.due_at) == (state, None, NOW + DELAYS[0])
    assert first.deferral is not None
    assert "internal error" in first.deferral.detail
    assert again.due_at == NOW + 60.0 + DELAYS[1]


def test_a_post_that_may_have_been_sent_is_never_repeated() -> None:
    doubted = deferred(in_state(State.STARTING, sent_at=NOW))
    assert (doubted.state, doubted.due_at, doubted.deferral) == (State.IN_DOUBT, NOW + 900.0, None)


def test_an_attempt_whose_post_was_not_sent_does_not_count() -> None:
    before = deferred(in_state(State.ACCEPTED, attempt=2))
    undone = state_machine.undo_begin(state_machine.begin(replace(before, owner="me"), NOW + 9.0))
    assert undone == replace(before, due_at=NOW + 9.0)
    assert deferred(undone, NOW + 9.0).due_at == NOW + 9.0 + DELAYS[1]


def test_a_run_held_in_doubt_has_no_due_time() -> None:
    assert quarantine.defer(in_state(State.IN_DOUBT, due_at=None), POLICY, NOW) is None


def test_the_late_poll_of_an_ended_run_is_deferred() -> None:
    late = in_state(State.CANCELLED, finished_at=NOW, due_at=NOW)
    assert deferred(late).due_at == NOW + 60.0
    assert deferred(late, NOW + 90_000.0).due_at is None
    assert quarantine.defer(replace(late, due_at=None), POLICY, NOW) is None


def test_any_transition_ends_the_deferral() -> None:
    begun = state_machine.begin(deferred(in_state(State.ACCEPTED)), NOW)
    assert state_machine.on_kickoff(begun, Started("k-1"), POLICY, NOW).run.deferral is None
    held = state_machine.on_evidence_overdue(deferred(in_state(State.IN_DOUBT)), POLICY, NOW)
    assert held.run.deferral is None


@pytest.mark.parametrize("response", [Running(), NoResponse("HTTP 502")])
def test_the_next_poll_ends_the_deferral_of_a_run(response: StatusResponse) -> None:
    run = deferred(in_state(State.RUNNING))
    tracked = tracking.tracked_from_run(run, POLICY, NOW)
    observation = observe(tracked, response, POLICY, NOW)
    assert TrackingChange.POLLING_RESUMED in observation.changes
    polled = apply_observation(run, observation, POLICY).run
    assert (polled.deferral, polled.due_at) == (None, None)
    assert not tracking.sync_with_run(observation.tracked, polled).deferred


def test_a_run_without_a_deferral_stays_unchanged() -> None:
    run = in_state(State.RUNNING, due_at=NOW)
    assert state_machine.clear_deferral(run) is run


def test_pending_human_input_stays_due_after_polls() -> None:
    waiting = in_state(
        State.WAITING_FOR_HUMAN, human_input=HumanInput(Question(1, NOW, stage=QuestionStage.ACCEPTED, feedback="yes"))
    )
    run = deferred(waiting)
    assert rules.has_pending_answer(run)
    assert state_machine.clear_deferral(run) == run
    assert not tracking.tracked_from_run(run, POLICY, NOW).deferred


def test_a_deferred_run_with_an_open_question_has_no_pending_human_input() -> None:
    run = deferred(in_state(State.WAITING_FOR_HUMAN, human_input=HumanInput(Question(1, NOW))))
    assert not rules.has_pending_answer(run)
    assert state_machine.clear_deferral(run).due_at is None
    assert not rules.has_pending_answer(in_state(State.WAITING_FOR_HUMAN))


def test_a_delivery_becomes_dead_with_the_reason() -> None:
    outcome = on_internal_error(a_delivery(), NOW)
    dead = outcome.delivery
    assert (dead.state, dead.attempts, outcome.receiver) == (DeliveryState.DEAD, 1, None)
    assert (dead.last_error or "").startswith("internal error")
    assert outcome.attempt.error == dead.last_error
