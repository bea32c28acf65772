"""What is one process's share."""

import math

import pytest

from bridge.core.crew.fair_share import FairShare, Membership


def test_alone_a_process_may_follow_everything():
    share = FairShare()
    assert share.update(Membership(processes=1, runs_in_progress=10_000, own_runs=10_000)) == 0
    assert (share.allowed, share.processes) == (math.inf, 1)


@pytest.mark.parametrize(
    ("membership", "surplus"),
    [
        (Membership(processes=2, runs_in_progress=10_000, own_runs=10_000), 5_000),
        (Membership(processes=3, runs_in_progress=10_000, own_runs=3_650), 0),  # within a tenth of a share
        (Membership(processes=3, runs_in_progress=10_000, own_runs=3_800), 466),
        (Membership(processes=2, runs_in_progress=20, own_runs=20), 0),  # not worth it
        (Membership(processes=2, runs_in_progress=100, own_runs=0), 0),
    ],
)
def test_what_is_well_above_an_even_share_is_given_to_others(membership: Membership, surplus: int):
    assert FairShare().update(membership) == surplus


def test_a_process_takes_up_runs_as_far_as_its_share_goes():
    share = FairShare()
    assert share.capacity(100, tracked=10**6) == 100
    share.update(Membership(processes=2, runs_in_progress=1000, own_runs=500))
    assert [share.capacity(100, tracked) for tracked in (0, 500, 549, 550, 600)] == [100, 50, 1, 0, 0]


def test_shares_together_are_at_least_everything():
    """Else runs would be left that nobody may take up."""
    for processes in range(2, 9):
        share = FairShare()
        share.update(Membership(processes, runs_in_progress=1001, own_runs=0))
        assert share.allowed * processes >= 1001


def test_a_process_that_does_not_see_itself_counts_as_one():
    share = FairShare()
    share.update(Membership(processes=0, runs_in_progress=0, own_runs=0))
    assert share.processes == 1
