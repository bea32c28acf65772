"""The fair share of tracked runs of one process."""

import math

import pytest

from bridge.core.crew.fair_share import FairShare, Membership


def test_a_single_process_may_track_every_run():
    share = FairShare()
    assert share.update(Membership(processes=1, runs_in_progress=10_000, own_runs=10_000)) == 0
    assert (share.allowed, share.processes) == (math.inf, 1)


@pytest.mark.parametrize(
    ("membership", "surplus"),
    [
        (Membership(processes=2, runs_in_progress=10_000, own_runs=10_000), 5_000),
        (Membership(processes=3, runs_in_progress=10_000, own_runs=3_650), 0),  # within a tenth of the share
        (Membership(processes=3, runs_in_progress=10_000, own_runs=3_800), 466),
        (Membership(processes=2, runs_in_progress=20, own_runs=20), 0),  # too few to release
        (Membership(processes=2, runs_in_progress=100, own_runs=0), 0),
    ],
)
def test_runs_well_above_the_fair_share_are_released(membership: Membership, surplus: int):
    assert FairShare().update(membership) == surplus


def test_a_process_claims_runs_up_to_its_fair_share():
    share = FairShare()
    assert share.capacity(100, tracked=10**6) == 100
    share.update(Membership(processes=2, runs_in_progress=1000, own_runs=500))
    assert [share.capacity(100, tracked) for tracked in (0, 500, 549, 550, 600)] == [100, 50, 1, 0, 0]


def test_the_fair_shares_of_all_processes_cover_all_runs():
    """Otherwise some runs would stay unclaimed."""
    for processes in range(2, 9):
        share = FairShare()
        share.update(Membership(processes, runs_in_progress=1001, own_runs=0))
        assert share.allowed * processes >= 1001


def test_a_process_missing_from_the_membership_counts_itself():
    share = FairShare()
    share.update(Membership(processes=0, runs_in_progress=0, own_runs=0))
    assert share.processes == 1
