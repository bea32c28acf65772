"""Times of a run: repeated kickoffs, evidence for runs in doubt, and late polls of ended runs."""

from dataclasses import replace

import pytest

from bridge.core import jitter
from bridge.core.crew_policy import CrewPolicy, DoubtPolicy
from bridge.core.runs import state_machine, timing
from tests.fakes import a_run

NOW = 10_000.0


@pytest.mark.parametrize(("attempt", "delay"), [(1, 2), (2, 4), (5, 32), (6, 60), (7, 60), (5000, 60)])
def test_delays_of_kickoff_retries_grow(attempt: int, delay: float):
    wait = timing.next_kickoff_at("run", attempt, NOW, None) - NOW
    assert 0.8 * delay <= wait <= 1.2 * delay


def test_a_kickoff_is_not_retried_before_retry_after():
    assert timing.next_kickoff_at("run", 1, NOW, 300.0) == NOW + 300.0
    assert timing.next_kickoff_at("run", 9, NOW, 1.0) > NOW + 40.0


@pytest.mark.parametrize("policy", DoubtPolicy)
def test_the_policy_applies_after_in_doubt_after(policy: DoubtPolicy):
    policy_of_crew = CrewPolicy(in_doubt=policy, in_doubt_after=5.0)
    doubted = state_machine.on_interrupted_kickoff(state_machine.begin(a_run(), NOW), policy_of_crew, NOW).run
    assert doubted.due_at == NOW + 5.0


@pytest.mark.parametrize(
    ("age", "wait"), [(0, 60), (59, 60), (61, 61), (600, 600), (3600, 3600), (7200, 3600), (86_400, 3600)]
)
def test_late_polls_become_rarer_with_the_time_since_the_end(age: float, wait: float):
    assert timing.next_late_poll_at(replace(a_run(), finished_at=NOW), NOW + age) == NOW + age + wait


def test_late_polls_end_after_a_day():
    assert timing.next_late_poll_at(replace(a_run(), finished_at=NOW), NOW + 86_401) is None


def test_runs_recovered_together_are_spread_out():
    moments = [jitter.spread(f"run-{number}", NOW, 10.0) for number in range(200)]
    assert all(NOW <= moment < NOW + 10.0 for moment in moments)
    assert len({int(moment) for moment in moments}) == 10
