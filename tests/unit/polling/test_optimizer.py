"""Placement of polls: within the budget, dense where runs end, and close to the optimum."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.core.polling.distribution import Estimate, estimate, interpolate
from bridge.core.polling.optimizer import Plan, plan_polls, plan_polls_at_price

TIGHT = estimate([(50.0 + step / 10, 50.0 + step / 10) for step in range(200)])


def polls_of(plan: Plan, until: float) -> list[float]:
    ages = [plan.next_age(0.0)]
    while ages[-1] < until:
        ages.append(plan.next_age(ages[-1]))
    return ages


def cost(plan: Plan) -> float:
    """The mean number of polls for the runs of the estimate."""
    return 1.0 + sum(1.0 - TIGHT.observed_share_at(age) for age in polls_of(plan, 1e4))


@pytest.mark.parametrize("polls", [2.0, 5.0, 10.0, 40.0])
def test_a_plan_costs_the_requested_number_of_polls(polls: float):
    assert cost(plan_polls(TIGHT, polls, 0.01, 1e6)) == pytest.approx(polls, rel=0.05)


def test_polls_are_dense_only_where_runs_end():
    ages = polls_of(plan_polls(TIGHT, 5.0, 0.1, 1e6), 70.0)
    assert 40 < ages[0] < 58
    assert max(after - before for before, after in pairwise(ages[:4])) < 8


def test_polls_become_rarer_as_a_run_outlives_all_others():
    plan = plan_polls(TIGHT, 5.0, 0.1, 1e9)
    gaps = [plan.next_age(age) - age for age in (100.0, 1e3, 1e4, 1e5)]
    assert gaps == sorted(gaps)


def test_intervals_respect_the_limits_where_candidates_permit():
    plan = plan_polls(TIGHT, 5.0, 5.0, 15.0)
    gaps = [after - before for before, after in pairwise([0.0, *polls_of(plan, 69.0)])]
    assert min(gaps) > 4.0
    assert max(gaps) < 17.0


def test_where_no_run_ends_polls_are_as_rare_as_the_longest_interval_permits():
    two_kinds = estimate([(18.0 + step / 10, 18.0 + step / 10) for step in range(40)] + [(600.0, 600.0)] * 40)
    ages = polls_of(plan_polls(two_kinds, 5.0, 1.0, 60.0), 500.0)
    gaps = [after - before for before, after in pairwise(ages) if before > 30.0]
    assert max(gaps) < 60.5
    assert sum(gaps) / len(gaps) > 50.0


def test_a_higher_price_makes_polls_rarer():
    assert cost(plan_polls_at_price(TIGHT, 100.0, 0.1, 1e6)) < cost(plan_polls_at_price(TIGHT, 1.0, 0.1, 1e6))


def lag(estimated: Estimate, ages: list[float]) -> float:
    """The mean lag in seconds, summed over thin slices."""
    slices = [step / 500 for step in range(1, 500)]
    ends = [interpolate(estimated.ended, estimated.ages, share) for share in slices]
    return sum(min(age for age in [*ages, 1e9] if age >= end) - end for end in ends) / len(ends)


def test_moving_any_single_poll_does_not_improve_the_plan():
    """The stepwise choice, from the oldest age down, is the best overall."""
    plan = plan_polls(TIGHT, 5.0, 0.1, 1e6)
    ages = polls_of(plan, 1e4)

    def cost(placed: list[float]) -> float:
        count = 1.0 + sum(1.0 - TIGHT.ended_share_at(age) for age in placed)
        return lag(TIGHT, placed) + plan.price * count

    best = cost(ages)
    for index in range(4):
        for shift in (-1.5, 1.5):
            moved = [*ages[:index], ages[index] + shift, *ages[index + 1 :]]
            assert cost(sorted(moved)) > best - 0.02


@example([0.0] * 4, 5.0, 0.0)  # no age to plan for except the first
@example([0.0, 0.0, 0.0, 1.0, *[155139.0] * 4], 5.0, 0.0)  # fractions that decrease through rounding
@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=30), st.floats(1.0, 20.0), st.floats(0.0, 1e7))
def test_the_next_poll_is_always_in_the_future(seconds: list[float], polls: float, age: float):
    assert plan_polls(estimate([(took, took) for took in seconds]), polls, 1.0, 60.0).next_age(age) >= age
