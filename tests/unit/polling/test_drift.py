"""Drift detection: a change of a crew's run times, noticed from single polls."""

import math
from random import Random

import pytest

from bridge.core.polling.drift import Drift


def feed(drift: Drift, hazard: float, runs: int) -> int | None:
    """Poll memoryless runs every half of their expected length; return the number of runs until drift is reported."""
    rng, expected = Random(7), 1.0 - math.exp(-0.5)
    really = 1.0 - math.exp(-0.5 * hazard)
    for run in range(runs):
        over = False
        while not over:
            over = rng.random() < really
            if drift.observe(expected, float(run), ended=over):
                return run
    return None


def test_a_stable_crew_is_rarely_reported():
    drift, alarms = Drift(), 0
    rng, chance = Random(7), 1.0 - math.exp(-0.5)
    for poll_number in range(10_000):
        if drift.observe(chance, float(poll_number), ended=rng.random() < chance):
            drift, alarms = Drift(), alarms + 1
    assert alarms <= 5


@pytest.mark.parametrize("hazard", [0.4, 3.0])
def test_a_slower_or_faster_crew_is_noticed(hazard: float):
    noticed = feed(Drift(), hazard, 100)
    assert noticed is not None


def test_the_time_of_the_change_is_reported():
    drift = Drift()
    for run in range(50):
        drift.observe(0.9, float(run), ended=True)
    run = 50
    while not drift.observe(0.9, float(run), ended=False):
        run += 1
    assert drift.began_at == 50.0
    assert run < 60


@pytest.mark.parametrize("chance", [-0.1, 0.0, 1.0, 1.1])
def test_certain_outcomes_are_ignored(chance: float):
    drift = Drift()
    for over in (True, False):
        drift.observe(chance, 0.0, ended=over)
    assert all(math.isfinite(gain) for gain in drift.sums)
