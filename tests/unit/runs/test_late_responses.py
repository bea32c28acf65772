"""A response to a POST that arrives after the process has expired: evidence for a run in doubt."""

from dataclasses import replace

import pytest

from bridge.core.crew.responses import InDoubt, KickoffResponse, NotStarted, Refused, Started
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import late_results, state_machine
from bridge.core.runs.model import Run, State
from tests.fakes import NOW, a_run

POLICY = CrewPolicy(results_exchange=True)


def in_doubt() -> Run:
    return state_machine.on_interrupted_kickoff(state_machine.begin(a_run(), NOW), POLICY, NOW).run


def test_a_started_execution_is_tracked():
    decision = state_machine.on_late_response(in_doubt(), 1, Started("k-1"), POLICY, NOW)
    assert decision is not None
    assert (decision.run.state, decision.run.kickoff_id, decision.run.owner) == (State.RUNNING, "k-1", None)


@pytest.mark.parametrize(
    ("response", "state"),
    [
        (Started("k-1"), State.RUNNING),
        (Refused("no"), State.FAILED),
        (NotStarted("no connection"), State.ACCEPTED),
        (InDoubt("502"), State.IN_DOUBT),
    ],
)
def test_before_the_run_is_in_doubt_a_response_counts_as_if_it_had_come_in_time(
    response: KickoffResponse, state: State
):
    taken_over = replace(state_machine.begin(a_run(), NOW), owner="another")
    decision = state_machine.on_late_response(taken_over, 1, response, POLICY, NOW)
    assert decision is not None
    assert (decision.run.state, decision.run.owner) == (state, None)
    assert state_machine.on_late_response(taken_over, 2, response, POLICY, NOW) is None


def test_a_refusal_ends_the_run():
    decision = state_machine.on_late_response(in_doubt(), 1, Refused("no"), POLICY, NOW)
    assert decision is not None
    assert decision.run.state is State.FAILED


def test_evidence_that_nothing_started_permits_another_start():
    decision = state_machine.on_late_response(in_doubt(), 1, NotStarted("no connection"), POLICY, NOW)
    assert decision is not None
    assert decision.run.state is State.ACCEPTED


def test_an_ambiguous_response_changes_nothing():
    assert state_machine.on_late_response(in_doubt(), 1, InDoubt("502"), POLICY, NOW) is None


def test_a_response_to_another_attempt_changes_nothing():
    assert state_machine.on_late_response(in_doubt(), 2, NotStarted("no connection"), POLICY, NOW) is None


def test_an_earlier_decision_stands_and_the_unneeded_execution_is_stopped():
    ended = state_machine.on_abandoned(in_doubt(), "no", POLICY, NOW).run
    assert state_machine.on_late_response(ended, 1, Refused("no"), POLICY, NOW) is None
    late = state_machine.on_late_response(ended, 1, Started("k-1"), POLICY, NOW)
    assert late is not None
    assert (late.run.state, late.run.kickoff_id, late_results.should_be_stopped(late.run)) == (
        State.FAILED,
        "k-1",
        True,
    )


def test_an_execution_found_before_the_repeated_post_is_tracked():
    again = state_machine.requeue(in_doubt(), NOW)
    decision = state_machine.on_late_response(again, 1, Started("k-1"), POLICY, NOW)
    assert decision is not None
    assert (decision.run.state, decision.run.kickoff_id) == (State.RUNNING, "k-1")
