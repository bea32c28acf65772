"""What is one process's share."""

import math

import pytest

from bridge.core.crew.fair_share import Census, Share


def test_alone_a_process_may_follow_everything():
    share = Share()
    assert share.update(Census(living=1, under_way=10_000, mine=10_000)) == 0
    assert (share.allowed, share.living) == (math.inf, 1)


@pytest.mark.parametrize(
    ("census", "surplus"),
    [
        (Census(living=2, under_way=10_000, mine=10_000), 5_000),
        (Census(living=3, under_way=10_000, mine=3_650), 0),  # within a tenth of a share
        (Census(living=3, under_way=10_000, mine=3_800), 466),
        (Census(living=2, under_way=20, mine=20), 0),  # not worth it
        (Census(living=2, under_way=100, mine=0), 0),
    ],
)
def test_what_is_well_above_an_even_share_is_given_to_others(census: Census, surplus: int):
    assert Share().update(census) == surplus


def test_a_process_takes_up_runs_as_far_as_its_share_goes():
    share = Share()
    assert share.room(100, tracker=10**6) == 100
    share.update(Census(living=2, under_way=1000, mine=500))
    assert [share.room(100, tracker) for tracker in (0, 500, 549, 550, 600)] == [100, 50, 1, 0, 0]


def test_shares_together_are_at_least_everything():
    """Else runs would be left that nobody may take up."""
    for living in range(2, 9):
        share = Share()
        share.update(Census(living, under_way=1001, mine=0))
        assert share.allowed * living >= 1001


def test_a_process_that_does_not_see_itself_counts_as_one():
    share = Share()
    share.update(Census(living=0, under_way=0, mine=0))
    assert share.living == 1
