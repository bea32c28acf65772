"""The estimate of run times: where runs end, how wide they are smeared, and that nothing is ever impossible."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.polling.distribution import Estimate, between, estimate, likeliest_scale

times = st.lists(st.floats(0, 1e7), min_size=1, max_size=40)


def known(seconds: list[float]) -> Estimate:
    """From run times that are known exactly."""
    return estimate([(took, took) for took in seconds])


@given(times)
def test_the_share_of_runs_that_are_over_only_grows_with_age(seconds: list[float]):
    found = known(seconds)
    assert found.ages == sorted(found.ages)
    assert all(before <= after + 1e-12 for before, after in zip(found.over, found.over[1:], strict=False))
    assert found.over[0] == 0.0
    assert found.over[-1] < 1.0


def test_half_of_the_runs_are_over_at_the_median():
    found = known([float(second) for second in range(50, 151)])
    assert 0.47 < found.over_at(100.0) < 0.53
    assert 90 < between(found.over, found.ages, 0.5) < 110


def test_no_age_is_impossible_however_regular_a_crew_is():
    found = known([60.0] * 200)
    assert found.over_at(55.0) > 0.005
    assert found.over_at(300.0) < 0.999
    assert found.over_at(65.0) - found.over_at(55.0) > 0.97


def test_ages_outside_of_all_that_is_covered_have_the_outermost_share():
    found = known([60.0] * 20)
    assert (found.over_at(-1.0), found.over_at(1e12)) == (0.0, found.over[-1])


def test_runs_of_two_kinds_make_two_humps_with_nothing_between_them():
    found = known([9.0 + step / 10 for step in range(20)] + [300.0 + step for step in range(20)])
    assert found.over_at(250.0) - found.over_at(15.0) < 0.1
    assert found.over_at(12.0) - found.over_at(8.0) > 0.4


def test_where_in_its_span_a_run_ended_is_told_by_the_others():
    found = estimate([(55.0, 57.0)] * 30 + [(10.0, 100.0)] * 30)
    assert found.over_at(60.0) - found.over_at(50.0) > 0.8


def test_a_late_run_does_not_make_others_many_times_later():
    found = known([float(second) for second in range(50, 150)] + [1000.0])
    assert 1.0 - found.over_at(2500.0) < 0.01


def test_what_was_seen_is_counted_without_smoothing():
    found = known([10.0] * 10 + [100.0] * 10)
    assert found.seen_over_at(9.0) == pytest.approx(0.0, abs=1e-6)
    assert found.seen_over_at(50.0) == pytest.approx(0.5, abs=1e-6)
    assert found.seen_over_at(110.0) == pytest.approx(1.0, abs=1e-6)


def test_a_run_counts_by_its_weight():
    heavy = estimate([(10.0, 10.0)] * 40 + [(100.0, 100.0)] * 40, [3.0] * 40 + [1.0] * 40)
    assert heavy.over_at(30.0) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_the_scale_of_a_change_is_found_from_a_few_runs(scale: float):
    former = known([10.0 + step / 10 for step in range(20)] + [300.0 + step for step in range(20)])
    now = [(scale * time, scale * time) for time in (10.5, 11.0, 310.0, 305.0, 11.5, 316.0)]
    assert abs(math.log2(likeliest_scale(former, now) / scale)) <= 1 / 8


def test_one_run_that_took_many_times_longer_is_no_sign_that_all_do_but_two_are():
    former = known([50.0 + step / 10 for step in range(200)])
    assert likeliest_scale(former, [(1800.0, 1800.0)]) == 1.0
    assert likeliest_scale(former, [(1800.0, 1800.0), (1750.0, 1750.0)]) > 16.0
