"""The promises hold over 300 simulated histories, 60 of them of several bridges; `make simulate` plays more of them."""

from collections import Counter
from pathlib import Path

import pytest

from tests.fast_folder import fast_folder
from tests.simulation.run import empty_store, play

SEEDS, SHARE = 300, 60

FAULTS = {
    "confirm lost",
    "confirmation lost",
    "delivery failed",
    "webhook doubled",
    "webhook late",
    "webhook lost",
    "write refused",
}
"""Those that any share of the seeds must meet; the rarer ones are spread over all of them."""
AMONG_SEVERAL = {"frozen", "bury", "rejoin", "hand_over", "pass_on", "collect_hints", "stale write"}


@pytest.mark.parametrize("first", range(0, SEEDS, SHARE))
def test_the_promises_hold_wherever_processes_die(first: int) -> None:
    seen = Counter[str]()
    with fast_folder() as folder:
        empty = empty_store(Path(folder))
        for seed in range(first, first + SHARE):
            history = play(seed, empty)
            seen += history.world.seen + Counter(crashes=history.crashed, stops=history.ended_in_order)

    assert set(seen) >= FAULTS | AMONG_SEVERAL | {"crashes", "stops"}, "a fault that never happened proves nothing"


@pytest.mark.parametrize("seed", [4, 8, 9])
def test_a_seed_tells_the_same_story_again(seed: int) -> None:
    with fast_folder() as folder:
        empty = empty_store(Path(folder))
        first, again = play(seed, empty), play(seed, empty)

    assert first.world.received == again.world.received
    assert first.world.seen == again.world.seen
    assert first.lasted == again.lasted
