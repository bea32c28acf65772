"""Where looks are placed: for the looks that were asked for, densely where runs end, and as well as can be."""

from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.core.polling.distribution import Estimate, between, estimate
from bridge.core.polling.optimizer import Plan, plan_polls, plan_polls_at_price

TIGHT = estimate([(50.0 + step / 10, 50.0 + step / 10) for step in range(200)])


def looks_of(plan: Plan, until: float) -> list[float]:
    ages = [plan.next_age(0.0)]
    while ages[-1] < until:
        ages.append(plan.next_age(ages[-1]))
    return ages


def cost(plan: Plan) -> float:
    """Mean looks at the runs of which the estimate was made."""
    return 1.0 + sum(1.0 - TIGHT.seen_over_at(age) for age in looks_of(plan, 1e4))


@pytest.mark.parametrize("polls", [2.0, 5.0, 10.0, 40.0])
def test_a_plan_costs_the_looks_that_were_asked_for(polls: float):
    assert cost(plan_polls(TIGHT, polls, 0.01, 1e6)) == pytest.approx(polls, rel=0.05)


def test_looks_are_dense_where_runs_end_and_nowhere_else():
    ages = looks_of(plan_polls(TIGHT, 5.0, 0.1, 1e6), 70.0)
    assert 40 < ages[0] < 58
    assert max(after - before for before, after in pairwise(ages[:4])) < 8


def test_the_longer_a_run_has_outlived_all_others_the_rarer_it_is_looked_at():
    plan = plan_polls(TIGHT, 5.0, 0.1, 1e9)
    gaps = [plan.next_age(age) - age for age in (100.0, 1e3, 1e4, 1e5)]
    assert gaps == sorted(gaps)


def test_pauses_keep_to_the_limits_where_candidates_permit():
    plan = plan_polls(TIGHT, 5.0, 5.0, 15.0)
    gaps = [after - before for before, after in pairwise([0.0, *looks_of(plan, 69.0)])]
    assert min(gaps) > 4.0
    assert max(gaps) < 17.0


def test_where_no_run_ends_looks_are_as_rare_as_the_longest_pause_permits():
    two_kinds = estimate([(18.0 + step / 10, 18.0 + step / 10) for step in range(40)] + [(600.0, 600.0)] * 40)
    ages = looks_of(plan_polls(two_kinds, 5.0, 1.0, 60.0), 500.0)
    gaps = [after - before for before, after in pairwise(ages) if before > 30.0]
    assert max(gaps) < 60.5
    assert sum(gaps) / len(gaps) > 50.0


def test_a_dear_look_is_made_less_often():
    assert cost(plan_polls_at_price(TIGHT, 100.0, 0.1, 1e6)) < cost(plan_polls_at_price(TIGHT, 1.0, 0.1, 1e6))


def lag(estimated: Estimate, ages: list[float]) -> float:
    """Mean lag in seconds, by sums over thin slices."""
    slices = [step / 500 for step in range(1, 500)]
    ends = [between(estimated.over, estimated.ages, share) for share in slices]
    return sum(min(age for age in [*ages, 1e9] if age >= end) - end for end in ends) / len(ends)


def test_no_shift_of_a_single_look_makes_the_plan_better():
    """What is chosen step by step from the oldest age down is best as a whole."""
    plan = plan_polls(TIGHT, 5.0, 0.1, 1e6)
    ages = looks_of(plan, 1e4)

    def cost(placed: list[float]) -> float:
        count = 1.0 + sum(1.0 - TIGHT.over_at(age) for age in placed)
        return lag(TIGHT, placed) + plan.price * count

    best = cost(ages)
    for index in range(4):
        for shift in (-1.5, 1.5):
            moved = [*ages[:index], ages[index] + shift, *ages[index + 1 :]]
            assert cost(sorted(moved)) > best - 0.02


@settings(max_examples=15)
@example([0.0] * 4, 5.0, 0.0)  # no age but the first to plan for
@example([0.0, 0.0, 0.0, 1.0, *[155139.0] * 4], 5.0, 0.0)  # shares that rounding lets fall
@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=30), st.floats(1.0, 20.0), st.floats(0.0, 1e7))
def test_whatever_was_seen_the_next_look_is_later_than_now(seconds: list[float], polls: float, age: float):
    assert plan_polls(estimate([(took, took) for took in seconds]), polls, 1.0, 60.0).next_age(age) >= age
