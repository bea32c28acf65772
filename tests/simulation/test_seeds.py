"""The promises hold in 20 simulated histories, 4 of them with several bridges; `make simulate` runs more."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fakes import memory_folder
from tests.simulation.run import bridges, empty_store, play

SEEDS = range(20)
ALONE = [seed for seed in SEEDS if bridges(seed) == 1]
SEVERAL = [seed for seed in SEEDS if bridges(seed) > 1]
SLICE = 16  # seeds per test: few enough for any machine, enough to meet the faults below

FAULTS = {
    "confirm lost",
    "confirmation lost",
    "delivery failed",
    "webhook doubled",
    "webhook late",
    "webhook lost",
    "write refused",
}
"""Faults that any slice of the seeds must meet; rarer ones are spread over all of them."""
AMONG_SEVERAL = {
    "frozen",
    "expire_processes",
    "rejoin",
    "release_runs",
    "stale write",
}


def slices(seeds: list[int]) -> list[list[int]]:
    return [seeds[first : first + SLICE] for first in range(0, len(seeds), SLICE)]


def seen_in(seeds: Sequence[int]) -> set[str]:
    """Run the histories; return the faults that occurred in any of them."""
    seen = Counter[str]()
    with memory_folder() as folder:
        empty = empty_store(Path(folder))
        for seed in seeds:
            history = play(seed, empty)
            seen += history.world.seen + Counter(crashes=history.crashed, stops=history.ended_in_order)
    return set(seen)


@pytest.mark.parametrize("seeds", slices(ALONE), ids=lambda seeds: f"{seeds[0]} to {seeds[-1]}")
def test_the_promises_hold_wherever_a_process_dies(seeds: Sequence[int]) -> None:
    assert seen_in(seeds) >= FAULTS | {"crashes", "stops"}, "a fault that never happened proves nothing"


@pytest.mark.parametrize("seeds", slices(SEVERAL), ids=lambda seeds: f"{seeds[0]} to {seeds[-1]}")
def test_the_promises_hold_among_several_processes_that_die(seeds: Sequence[int]) -> None:
    assert seen_in(seeds) >= FAULTS | AMONG_SEVERAL | {"crashes"}, "a fault that never happened proves nothing"


@pytest.mark.parametrize("seed", [4, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in (8, 9))])
def test_a_seed_repeats_the_same_history(seed: int) -> None:
    with memory_folder() as folder:
        empty = empty_store(Path(folder))
        first, again = play(seed, empty), play(seed, empty)

    assert first.world.received == again.world.received
    assert first.world.seen == again.world.seen
    assert first.lasted == again.lasted
