"""Commands: the states in which each is accepted, and its effect."""

from dataclasses import replace
from typing import Any

import pytest

from bridge.core.crew_policy import CrewPolicy
from bridge.core.errors import PostInProgress, RequestRefused
from bridge.core.human_input.model import HumanInput, Question, QuestionStage
from bridge.core.runs.commands import Abandon, Adopt, Cancel, Retry, RunCommand, apply_command
from bridge.core.runs.model import FINAL_STATES, Run, State
from tests.fakes import NOW, a_run, event_types

POLICY = CrewPolicy(results_exchange=True)
LATER = NOW + 60


def standing(state: State, **changes: Any) -> Run:
    return replace(a_run(), state=state, attempt=1, **changes)


@pytest.mark.parametrize("command", [Cancel(), Retry(), Adopt("k-1"), Adopt("no id"), Abandon()])
def test_no_command_is_accepted_while_a_post_is_in_flight(command: RunCommand):
    with pytest.raises(PostInProgress):
        apply_command(standing(State.STARTING), command, POLICY, LATER)


@pytest.mark.parametrize("state", sorted(set(State) - FINAL_STATES - {State.STARTING}))
def test_any_run_that_has_not_ended_can_be_cancelled(state: State):
    decision = apply_command(standing(state), Cancel(), POLICY, LATER)
    assert decision is not None
    assert (decision.run.state, decision.run.finished_at) == (State.CANCELLED, LATER)
    assert event_types(decision.deliveries) == ["run.cancelled"]


def test_cancelling_a_cancelled_run_changes_nothing():
    assert apply_command(standing(State.CANCELLED, finished_at=NOW), Cancel(), POLICY, LATER) is None


@pytest.mark.parametrize("state", sorted(FINAL_STATES - {State.CANCELLED}))
def test_a_run_that_ended_otherwise_cannot_be_cancelled(state: State):
    with pytest.raises(RequestRefused, match=f"already ended: {state}") as refused:
        apply_command(standing(state, finished_at=NOW), Cancel(), POLICY, LATER)
    assert refused.value.code == "run_is_over"


@pytest.mark.parametrize("attempt", [0, 2])
def test_a_held_run_adopts_the_execution_that_was_started_after_the_backup(attempt: int):
    held = replace(a_run(), attempt=attempt, due_at=None)
    decision = apply_command(held, Adopt("k-77"), POLICY, LATER)
    assert decision is not None
    adopted = decision.run
    assert (adopted.state, adopted.kickoff_id, adopted.attempt) == (State.RUNNING, "k-77", attempt + 1)
    assert (adopted.sent_at, adopted.held) == (LATER, False)


@pytest.mark.parametrize("command", [Retry(), Adopt("k-1"), Abandon()])
@pytest.mark.parametrize("state", sorted(set(State) - {State.STARTING, State.IN_DOUBT}))
def test_only_a_run_in_doubt_can_be_resolved(state: State, command: RunCommand):
    with pytest.raises(RequestRefused, match=f"{state}, not in_doubt") as refused:
        apply_command(standing(state), command, POLICY, LATER)
    assert refused.value.code == "not_in_doubt"


def test_a_retried_run_is_due_at_once_without_an_owner_or_event():
    decision = apply_command(standing(State.IN_DOUBT, due_at=None, owner="me"), Retry(), POLICY, LATER)
    assert decision is not None
    assert (decision.run.state, decision.run.due_at, decision.run.owner) == (State.ACCEPTED, LATER, None)
    assert decision.deliveries == ()


def test_an_adopted_execution_is_tracked_and_not_posted_again():
    decision = apply_command(standing(State.IN_DOUBT, due_at=NOW), Adopt("k-77"), POLICY, LATER)
    assert decision is not None
    assert (decision.run.state, decision.run.kickoff_id, decision.run.attempt) == (State.RUNNING, "k-77", 1)


@pytest.mark.parametrize("kickoff_id", ["", "../kickoff", "a b", "x" * 129])
def test_an_invalid_execution_id_is_not_adopted(kickoff_id: str):
    """The id becomes part of the path of each poll."""
    with pytest.raises(RequestRefused) as refused:
        apply_command(standing(State.IN_DOUBT), Adopt(kickoff_id), POLICY, LATER)
    assert (refused.value.code, refused.value.field) == ("invalid_request", "kickoff_id")


def test_an_abandoned_run_fails():
    decision = apply_command(standing(State.IN_DOUBT), Abandon(), POLICY, LATER)
    assert decision is not None
    assert decision.run.outcome.error is not None
    assert (decision.run.state, decision.run.outcome.error.code) == (State.FAILED, "abandoned")
    assert "operator" in decision.run.outcome.error.message
    assert event_types(decision.deliveries) == ["run.failed"]


def unverified(state: State) -> Run:
    question = Question(1, NOW, NOW + 600) if state is State.WAITING_FOR_HUMAN else None
    return standing(
        state,
        kickoff_id="k-wrong",
        unverified=True,
        owner="me",
        human_input=HumanInput(question, deadline_extension=600.0),
    )


@pytest.mark.parametrize("state", [State.RUNNING, State.WAITING_FOR_HUMAN])
@pytest.mark.parametrize("verified", [True, False])
def test_an_adopted_id_that_was_never_found_can_be_corrected(state: State, verified: bool):
    decision = apply_command(unverified(state), Adopt("k-right", verified=verified), POLICY, LATER)
    assert decision is not None
    run = decision.run
    assert (run.state, run.kickoff_id, run.unverified, run.owner) == (State.RUNNING, "k-right", not verified, None)
    assert decision.deliveries == ()
    if state is State.WAITING_FOR_HUMAN:
        assert run.human_input.question is not None
        assert (run.human_input.question.stage, run.human_input.deadline_extension) == (QuestionStage.CONFIRMED, 60.0)


def test_an_adopted_id_that_is_not_found_stays_unverified():
    decision = apply_command(standing(State.IN_DOUBT), Adopt("k-1", force=True, verified=False), POLICY, LATER)
    assert decision is not None
    assert decision.run.unverified
