"""Decisions: which one ends a run, and which are later writes."""

from dataclasses import replace

import pytest

from bridge.core.crew.responses import Started
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import state_machine
from bridge.core.runs.model import Decision, Run
from tests.fakes import NOW, a_run

POLICY = CrewPolicy(results_exchange=True)


def running() -> Run:
    starting = state_machine.begin(replace(a_run(), owner="me"), NOW)
    return state_machine.on_kickoff(starting, Started("k-1"), POLICY, NOW).run


@pytest.mark.parametrize("policy", [POLICY, replace(POLICY, results_exchange=False)])
def test_the_decision_with_the_final_event_ends_the_run(policy: CrewPolicy) -> None:
    """With and without a destination for the event."""
    assert state_machine.on_cancelled(running(), policy, NOW).ends_run


def test_later_writes_do_not_end_a_run_again() -> None:
    ended = state_machine.on_cancelled(running(), POLICY, NOW).run
    late = replace(POLICY, optional_events=frozenset({"late_result"}))
    assert not Decision(ended).ends_run
    assert not state_machine.with_optional_event(ended, "late_result", late, NOW).ends_run


def test_an_event_of_a_run_that_continues_does_not_end_it() -> None:
    started = replace(POLICY, optional_events=frozenset({"started"}))
    assert not state_machine.with_optional_event(running(), "started", started, NOW).ends_run
