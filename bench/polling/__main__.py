"""Prints the table of docs/polling.md: what learning gains, at as many looks, and how it takes a change.

`python -m bench.polling --histories 10` (minutes). Standard library only.
"""

import argparse
from collections.abc import Sequence
from random import Random

from bench.polling.world import CREWS, Draw, Followed, Follower, even_lag

HISTORY = 200  # runs before a crew counts as learned
MEASURED = 300  # runs per history
AFTER_CHANGE = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=10)
    histories = parser.parse_args().histories
    print(f"{'crew':12} {'gain':>5} {'looks':>5}   after 50 runs twice, and half as long; worst ten runs in brackets")
    for name, draw in CREWS.items():
        steady = _figures(draw, 1.0, [_learned(draw, seed)[1] for seed in range(histories)])
        changes = "   ".join(_change(draw, factor, histories) for factor in (2.0, 0.5))
        print(f"{name:12} {steady}   {changes}", flush=True)


def _learned(draw: Draw, seed: int, factor: float = 1.0) -> tuple[list[Followed], list[Followed]]:
    """What following cost in the fifty runs after a change, and in the runs after those, without learning more."""
    dice, follower = Random(seed), Follower()
    for _ in range(HISTORY):
        follower.follow(draw(dice))
    changing = [follower.follow(factor * draw(dice)) for _ in range(AFTER_CHANGE)] if factor != 1.0 else []
    return changing, [follower.follow(factor * draw(dice), learn=False) for _ in range(MEASURED)]


def _change(draw: Draw, factor: float, histories: int) -> str:
    both = [_learned(draw, seed, factor) for seed in range(histories)]
    tens = range(0, AFTER_CHANGE, 10)
    worst = min(_gain(draw, factor, [run for runs, _ in both for run in runs[ten : ten + 10]])[0] for ten in tens)
    return f"{_figures(draw, factor, [after for _, after in both])} ({worst:4.2f})"


def _figures(draw: Draw, factor: float, histories: Sequence[Sequence[Followed]]) -> str:
    gain, looks = _gain(draw, factor, [run for runs in histories for run in runs])
    return f"{gain:5.2f} {looks:5.2f}"


def _gain(draw: Draw, factor: float, followed: Sequence[Followed]) -> tuple[float, float]:
    dice = Random("reference")
    looks = sum(run.looks for run in followed) / len(followed)
    lag = sum(run.lag for run in followed) / len(followed)
    return even_lag([factor * draw(dice) for _ in range(10_000)], looks) / lag, looks


if __name__ == "__main__":
    main()
