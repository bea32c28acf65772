"""Evidence of an attempt that is not stored: the store is a restored backup, and the attempt was made after it."""

import pytest

from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import state_machine
from bridge.core.runs.model import Run, State
from tests.fakes import NOW, a_run

POLICY = CrewPolicy(results_exchange=True)


def in_doubt() -> Run:
    return state_machine.on_interrupted_kickoff(state_machine.begin(a_run(), NOW - 9), POLICY, NOW - 9).run


@pytest.mark.parametrize("run", [a_run(), in_doubt()])
def test_the_execution_is_adopted_and_the_attempt_is_not_repeated(run: Run):
    decision = state_machine.on_evidence(run, "k-7", POLICY, NOW, attempt=2)
    assert decision is not None
    assert (decision.run.state, decision.run.kickoff_id, decision.run.attempt) == (State.RUNNING, "k-7", 2)
    assert decision.run.sent_at == NOW


def test_the_execution_of_a_run_that_was_cancelled_meanwhile_is_polled():
    cancelled = state_machine.on_cancelled(a_run(), POLICY, NOW).run
    decision = state_machine.on_evidence(cancelled, "k-7", POLICY, NOW, attempt=1)
    assert decision is not None
    assert (decision.run.state, decision.run.kickoff_id, decision.run.due_at) == (State.CANCELLED, "k-7", NOW)
