"""Token buckets: the burst, the steady rate, and a limit on the number of buckets."""

import pytest

from bridge.core.http.limits import Buckets, Rate


def test_after_a_burst_the_rate_applies():
    buckets = Buckets(Rate(per_second=2.0, burst=3.0), 10)
    assert [buckets.take("a", 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert buckets.take("a", 100.25) == pytest.approx(0.25)
    assert [buckets.take("a", 100.5), buckets.take("a", 100.5)] == [0.0, pytest.approx(0.5)]


def test_idle_time_saves_at_most_the_burst():
    buckets = Buckets(Rate(per_second=2.0, burst=3.0), 10)
    buckets.take("a", 0.0)
    assert [buckets.take("a", 1e6) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_names_have_separate_buckets():
    buckets = Buckets(Rate(per_second=1.0, burst=1.0), 10)
    assert (buckets.take("a", 0.0), buckets.take("b", 0.0), buckets.take("a", 0.0)) == (0.0, 0.0, 1.0)


def test_the_number_of_buckets_is_limited():
    """The bucket that was idle longest is dropped; it has had the most time to refill."""
    buckets = Buckets(Rate(per_second=1.0, burst=1.0), 2)
    for name in ("a", "b", "a", "c"):
        buckets.take(name, 0.0)
    assert len(buckets) == 2
    assert buckets.take("a", 0.0) > 0.0
    assert buckets.take("b", 0.0) == 0.0
