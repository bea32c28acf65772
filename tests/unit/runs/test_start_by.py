"""`start_by`: a run that was not started in time expires, unless a POST may have left."""

from dataclasses import replace

import pytest

from bridge.core.crew.responses import NotStarted
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import state_machine
from bridge.core.runs.model import Envelope, KickoffRequest, Run, RunError, State
from tests.fakes import NOW, event_types, run_id

POLICY = CrewPolicy(results_exchange=True)


def accepted(start_by: float | None = 60.0, of_crew: float | None = None) -> Run:
    request = KickoffRequest("research", {}, start_by=start_by)
    return state_machine.accept(request, Envelope("queue"), run_id(1), NOW, of_crew)


@pytest.mark.parametrize(
    ("start_by", "of_crew", "expires_at"),
    [(None, None, None), (60.0, None, NOW + 60.0), (None, 90.0, NOW + 90.0), (60.0, 90.0, NOW + 60.0)],
)
def test_it_counts_from_acceptance_and_the_request_takes_precedence_over_the_crew(
    start_by: float | None, of_crew: float | None, expires_at: float | None
) -> None:
    assert accepted(start_by, of_crew).expires_at == expires_at


def test_a_run_that_was_not_started_in_time_fails_with_one_event() -> None:
    assert state_machine.on_start_by_passed(accepted(), POLICY, NOW + 59.9) is None
    decision = state_machine.on_start_by_passed(accepted(), POLICY, NOW + 60.0)
    assert decision is not None
    assert (decision.run.state, decision.run.finished_at) == (State.FAILED, NOW + 60.0)
    assert decision.run.outcome.error == RunError(
        "expired", "the run was not started by start_by; nothing was sent to the crew"
    )
    assert event_types(decision.deliveries) == ["run.failed"]


def test_without_start_by_a_run_waits_without_limit() -> None:
    assert state_machine.on_start_by_passed(accepted(None), POLICY, NOW + 1e9) is None


@pytest.mark.parametrize("state", sorted(set(State) - {State.ACCEPTED}))
def test_only_an_accepted_run_expires(state: State) -> None:
    assert state_machine.on_start_by_passed(replace(accepted(), state=state), POLICY, NOW + 60.0) is None


def test_a_run_whose_post_started_nothing_expires() -> None:
    starting = state_machine.begin(accepted(), NOW)
    refused = state_machine.on_kickoff(starting, NotStarted("HTTP 429"), POLICY, NOW).run
    assert state_machine.on_start_by_passed(refused, POLICY, NOW + 60.0) is not None


def test_a_run_whose_post_may_have_left_never_expires_again() -> None:
    """Also after a second POST that certainly started nothing: the first may have."""
    starting = state_machine.begin(accepted(), NOW)
    doubted = state_machine.on_interrupted_kickoff(starting, POLICY, NOW).run
    requeued = state_machine.requeue(doubted, NOW + 30.0)
    again = state_machine.undo_begin(state_machine.begin(requeued, NOW + 31.0))
    for run in (requeued, again):
        assert state_machine.on_start_by_passed(run, POLICY, NOW + 60.0) is None
