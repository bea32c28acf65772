"""The estimated distribution of run times: where runs end, how wide the estimate is, and that no age is impossible."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.polling.distribution import Estimate, estimate, interpolate, likeliest_scale

times = st.lists(st.floats(0, 1e7), min_size=1, max_size=40)


def known(seconds: list[float]) -> Estimate:
    """An estimate from exact run times."""
    return estimate([(took, took) for took in seconds])


@given(times)
def test_the_fraction_of_ended_runs_grows_with_age(seconds: list[float]):
    found = known(seconds)
    assert found.ages == sorted(found.ages)
    assert all(before <= after + 1e-12 for before, after in zip(found.ended, found.ended[1:], strict=False))
    assert found.ended[0] == 0.0
    assert found.ended[-1] < 1.0


def test_half_of_the_runs_end_before_the_median():
    found = known([float(second) for second in range(50, 151)])
    assert 0.47 < found.ended_share_at(100.0) < 0.53
    assert 90 < interpolate(found.ended, found.ages, 0.5) < 110


def test_no_age_is_impossible_even_for_a_regular_crew():
    found = known([60.0] * 200)
    assert found.ended_share_at(55.0) > 0.005
    assert found.ended_share_at(300.0) < 0.999
    assert found.ended_share_at(65.0) - found.ended_share_at(55.0) > 0.97


def test_ages_outside_the_covered_range_have_the_outermost_fraction():
    found = known([60.0] * 20)
    assert (found.ended_share_at(-1.0), found.ended_share_at(1e12)) == (0.0, found.ended[-1])


def test_two_kinds_of_runs_have_two_peaks_with_a_gap():
    found = known([9.0 + step / 10 for step in range(20)] + [300.0 + step for step in range(20)])
    assert found.ended_share_at(250.0) - found.ended_share_at(15.0) < 0.1
    assert found.ended_share_at(12.0) - found.ended_share_at(8.0) > 0.4


def test_other_runs_show_where_in_its_interval_a_run_ended():
    found = estimate([(55.0, 57.0)] * 30 + [(10.0, 100.0)] * 30)
    assert found.ended_share_at(60.0) - found.ended_share_at(50.0) > 0.8


def test_one_late_run_does_not_shift_the_estimate_by_a_multiple():
    found = known([float(second) for second in range(50, 150)] + [1000.0])
    assert 1.0 - found.ended_share_at(2500.0) < 0.01


def test_observed_run_times_are_counted_without_smoothing():
    found = known([10.0] * 10 + [100.0] * 10)
    assert found.observed_share_at(9.0) == pytest.approx(0.0, abs=1e-6)
    assert found.observed_share_at(50.0) == pytest.approx(0.5, abs=1e-6)
    assert found.observed_share_at(110.0) == pytest.approx(1.0, abs=1e-6)


def test_a_run_counts_by_its_weight():
    heavy = estimate([(10.0, 10.0)] * 40 + [(100.0, 100.0)] * 40, [3.0] * 40 + [1.0] * 40)
    assert heavy.ended_share_at(30.0) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_the_scale_of_a_change_is_estimated_from_a_few_runs(scale: float):
    former = known([10.0 + step / 10 for step in range(20)] + [300.0 + step for step in range(20)])
    now = [(scale * time, scale * time) for time in (10.5, 11.0, 310.0, 305.0, 11.5, 316.0)]
    assert abs(math.log2(likeliest_scale(former, now) / scale)) <= 1 / 8


def test_one_run_many_times_longer_does_not_change_the_scale():
    former = known([50.0 + step / 10 for step in range(200)])
    assert likeliest_scale(former, [(1800.0, 1800.0)]) == 1.0
    assert likeliest_scale(former, [(1800.0, 1800.0), (1750.0, 1750.0)]) > 16.0
