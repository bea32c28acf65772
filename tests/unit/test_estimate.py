"""The estimate of run times: where runs end, how wide they are smeared, and that nothing is ever impossible."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.estimate import NARROWEST, estimate, likeliest_scale, widths

times = st.lists(st.floats(0, 1e7), min_size=1, max_size=40)


@given(times)
def test_the_share_of_runs_that_are_over_only_grows_with_age(seconds: list[float]):
    found = estimate(seconds)
    assert found.ages == sorted(found.ages)
    assert all(before <= after + 1e-12 for before, after in zip(found.over, found.over[1:], strict=False))
    assert found.over[0] == 0.0
    assert found.over[-1] < 1.0


def test_half_of_the_runs_are_over_at_the_median():
    found = estimate([float(second) for second in range(50, 151)])
    assert 0.47 < found.over_at(100.0) < 0.53
    assert 90 < found.age_at(0.5) < 110


def test_no_age_is_impossible_however_regular_a_crew_is():
    found = estimate([60.0] * 200)
    assert found.over_at(55.0) > 0.005
    assert found.over_at(300.0) < 0.999
    assert found.over_at(65.0) - found.over_at(55.0) > 0.97


def test_ages_outside_of_all_that_is_covered_have_the_outermost_share():
    found = estimate([60.0] * 20)
    assert (found.over_at(-1.0), found.over_at(1e12)) == (0.0, found.over[-1])
    assert found.age_at(1.0) == found.ages[-1]


def test_an_age_is_drawn_from_where_runs_end():
    found = estimate([10.0] * 20 + [300.0] * 20)
    assert found.between(8.0, 200.0, 0.5) < 12.0
    assert found.between(100.0, 320.0, 0.9) > 290.0
    assert found.between(40.0, 40.0, 0.5) == 40.0


def test_humps_are_as_wide_as_the_distance_to_the_nearest_few():
    crowded, alone = [0.0, 0.1, 0.2, 0.3], 9.0
    found = widths([*crowded, alone])
    assert found[:4] == pytest.approx([0.3, 0.2, 0.2, 0.3])
    assert found[4] == pytest.approx(8.9)


def test_runs_that_all_took_equally_long_still_have_a_width():
    assert widths([4.0] * 9) == [NARROWEST] * 9
    assert widths([4.0]) == [NARROWEST]


def test_a_run_counts_by_its_weight():
    heavy = estimate([10.0] * 10 + [100.0] * 10, [3.0] * 10 + [1.0] * 10)
    assert heavy.over_at(30.0) == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0, 2.0, 4.0])
def test_the_scale_of_a_change_is_found_from_a_few_runs(scale: float):
    former = estimate([10.0 + step / 10 for step in range(20)] + [300.0 + step for step in range(20)])
    now = [scale * time for time in (10.5, 11.0, 310.0, 305.0, 11.5, 316.0)]
    assert abs(math.log2(likeliest_scale(former, now) / scale)) <= 1 / 8
