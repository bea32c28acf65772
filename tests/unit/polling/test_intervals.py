"""Poll intervals: steady, rarer after errors, at the fallback interval, and around the deadline."""

from dataclasses import replace

import pytest

from bridge.core.crew_policy import CrewPolicy
from bridge.core.polling import PollPlanner
from bridge.core.runs.model import TrackedRun

NOW = 10_000.0
PLANNER = PollPlanner(CrewPolicy())  # knows no run times: 5 s between polls


def tracked(**values: float | None) -> TrackedRun:
    started_at, errors, polls = values.get("started_at"), values.get("errors", 0), values.get("polls", 0)
    return TrackedRun(
        "run", "c", "k", 600.0, NOW, started_at=started_at, errors=int(errors or 0), polls=int(polls or 0)
    )


@pytest.mark.parametrize(
    ("poll_min_interval", "poll_max_interval", "interval"),
    [(1, 60, 5), (10, 60, 10), (1, 2, 2), (0.1, 60, 5), (5, 5, 5)],
)
def test_the_steady_interval_respects_the_limits_of_the_crew(
    poll_min_interval: float, poll_max_interval: float, interval: float
):
    planner = PollPlanner(CrewPolicy(poll_min_interval=poll_min_interval, poll_max_interval=poll_max_interval))
    assert planner.pause(tracked(), NOW) == interval


@pytest.mark.parametrize("polls", range(0, 50, 7))
def test_the_interval_of_a_healthy_execution_does_not_depend_on_the_number_of_polls(polls: int):
    assert 4.5 <= PLANNER.next_poll_at(tracked(polls=polls), NOW) - NOW <= 5.5


@pytest.mark.parametrize(("errors", "interval"), [(1, 10), (2, 20), (3, 40), (4, 60), (9, 60), (10_000, 60)])
def test_errors_increase_the_interval_up_to_the_limit_of_the_crew(errors: int, interval: float):
    wait = PLANNER.next_poll_at(tracked(errors=errors), NOW) - NOW
    assert 0.9 * interval <= wait <= 1.1 * interval


@pytest.mark.parametrize(("deadline", "interval"), [(3600.0, 60), (600.0, 60), (300.0, 30), (20.0, 5)])
def test_the_fallback_interval_is_the_maximum_of_the_crew_or_a_tenth_of_the_deadline(deadline: float, interval: float):
    wait = PLANNER.next_poll_at(replace(tracked(), deadline=deadline), NOW, at_fallback_interval=True) - NOW
    assert 0.9 * interval <= wait <= 1.1 * interval


def test_retry_after_is_obeyed_and_never_shortens_the_interval():
    assert PLANNER.next_poll_at(tracked(), NOW, after=120.0) == NOW + 120.0
    assert PLANNER.next_poll_at(tracked(), NOW, after=0.1) > NOW + 4


def test_the_last_poll_is_due_at_the_deadline():
    assert PLANNER.next_poll_at(tracked(started_at=NOW - 597.0), NOW) == NOW + 3.0


def test_after_the_deadline_polls_continue_at_their_interval():
    """The poll at the deadline got no response; only a poll with one may end the run."""
    assert PLANNER.next_poll_at(tracked(started_at=NOW - 600.0), NOW) > NOW + 4


def test_runs_that_were_claimed_together_are_polled_within_one_interval_and_not_at_once():
    polls = [PLANNER.spread_first_poll(f"run-{number}", NOW) - NOW for number in range(100)]
    assert 0.0 <= min(polls) < 0.5
    assert 4.5 < max(polls) < 5.0
