"""Token buckets: the burst, the steady rate, and that strangers cannot fill the memory."""

import pytest

from bridge.core.token_bucket import Buckets, Rate


def test_a_burst_passes_and_then_the_rate_holds():
    buckets = Buckets(Rate(per_second=2.0, burst=3.0), 10)
    assert [buckets.take("a", 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("a", 100.25) == pytest.approx(0.25)
    assert [buckets.take("a", 100.5), buckets.take("a", 100.5)] == [0.0, pytest.approx(0.5)]


def test_a_pause_gives_no_more_than_the_burst():
    buckets = Buckets(Rate(per_second=2.0, burst=3.0), 10)
    buckets.take("a", 0.0)
    assert [buckets.take("a", 1e6) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_nobody_is_held_up_by_another():
    buckets = Buckets(Rate(per_second=1.0, burst=1.0), 10)
    assert (buckets.take("a", 0.0), buckets.take("b", 0.0), buckets.take("a", 0.0)) == (0.0, 0.0, 1.0)


def test_only_so_many_names_are_remembered():
    """The one that was idle longest goes; its bucket has had the most time to fill again."""
    buckets = Buckets(Rate(per_second=1.0, burst=1.0), 2)
    for name in ("a", "b", "a", "c"):
        buckets.take(name, 0.0)
    assert len(buckets) == 2
    assert buckets.take("a", 0.0) > 0.0
    assert buckets.take("b", 0.0) == 0.0
