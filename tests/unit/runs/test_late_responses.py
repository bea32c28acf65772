"""An answer to a POST that comes when others have given up its process: the proof that the doubt lacked."""

from bridge.core.crew.responses import InDoubt, NotStarted, Refused, Started
from bridge.core.runs import state_machine
from bridge.core.runs.model import CrewPolicy, Run, State
from tests.fakes import NOW, a_run

POLICY = CrewPolicy(results_exchange=True)


def doubted() -> Run:
    return state_machine.on_interrupted_kickoff(state_machine.begin(a_run(), NOW).run, POLICY, NOW).run


def test_a_started_execution_is_followed():
    decision = state_machine.on_late_response(doubted(), 1, Started("k-1"), POLICY, NOW)
    assert decision is not None
    assert (decision.run.state, decision.run.kickoff_id, decision.run.owner) == (State.RUNNING, "k-1", None)


def test_a_refusal_ends_the_run():
    decision = state_machine.on_late_response(doubted(), 1, Refused("no"), POLICY, NOW)
    assert decision is not None
    assert decision.run.state is State.FAILED


def test_proof_that_nothing_was_started_lets_it_start_again():
    decision = state_machine.on_late_response(doubted(), 1, NotStarted("no connection"), POLICY, NOW)
    assert decision is not None
    assert decision.run.state is State.ACCEPTED


def test_an_answer_that_proves_nothing_changes_nothing():
    assert state_machine.on_late_response(doubted(), 1, InDoubt("502"), POLICY, NOW) is None


def test_an_answer_to_another_attempt_changes_nothing():
    assert state_machine.on_late_response(doubted(), 2, Started("k-1"), POLICY, NOW) is None


def test_what_was_decided_meanwhile_stands_and_an_execution_that_nobody_waits_for_is_stopped():
    ended = state_machine.on_abandoned(doubted(), "no", POLICY, NOW).run
    assert state_machine.on_late_response(ended, 1, Refused("no"), POLICY, NOW) is None
    late = state_machine.on_late_response(ended, 1, Started("k-1"), POLICY, NOW)
    assert late is not None
    assert (late.run.state, late.run.kickoff_id, state_machine.should_be_stopped(late.run)) == (
        State.FAILED,
        "k-1",
        True,
    )


def test_an_execution_that_is_known_before_the_repeated_post_leaves_is_followed():
    again = state_machine.requeue(doubted(), NOW)
    decision = state_machine.on_late_response(again, 1, Started("k-1"), POLICY, NOW)
    assert decision is not None
    assert (decision.run.state, decision.run.kickoff_id) == (State.RUNNING, "k-1")
