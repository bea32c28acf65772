"""Print the tables of docs/polling.md, and draw its picture.

`python -m bench.polling --histories 20 --picture docs/polling.svg` (minutes). Standard library only.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import fmean

from bench.polling.picture import Curve, draw_fronts
from bench.polling.policies import HISTORY, RUNS, backoff, best, by_hazard, cost_as_learned, fixed, run_time_stats
from bench.polling.world import CREWS, DIALECTS, LONGEST, Cost, Follower, draw, even_lag, even_shares, gain
from bridge.core.crew_policy import CrewPolicy

POLLS = 5.0
AFTER_CHANGE = 50  # runs
WINDOW = 10  # runs
DRAWS = 80  # resamples of the histories, to estimate chance
FRONT = (3.0, 5.0, 7.0, 10.0)  # polls per run at which the picture's curves are measured
FRONT_HISTORIES = 1
RARE_POLLS = CrewPolicy(deadline=4 * LONGEST, poll_max_interval=600.0)
"""For changes: with `poll.max_interval: 60s`, runs that take twice as long are polled more often than is optimal."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=12)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    _gains(options.histories)
    _changes(options.histories)
    _tasks(options.histories)
    if options.picture:
        options.picture.write_text(draw_fronts({crew: _fronts(crew) for crew in CREWS}))


def _gains(histories: int) -> None:
    print(f"{'':12}  backoff  hazard known  optimum known  learned  (worst)  polls (least, most)  false alarms")
    for crew in CREWS:
        run_times = even_shares(crew, RUNS)
        known = "  ".join(f"{gain(policy(crew, POLLS), run_times):8.2f}" for policy in (backoff, by_hazard, best))
        after = [run_time_stats(crew, POLLS, seed) for seed in range(histories)]
        gains, polls = [gain(paid, run_times) for paid in after], [paid.polls for paid in after]
        spread = f"({min(gains):.2f})  {fmean(polls):.2f} ({min(polls):.1f}, {max(polls):.1f})"
        print(f"{crew:12} {known}  {fmean(gains):.3f} {spread}  {_false_alarms(crew)}", flush=True)


def _false_alarms(crew: str) -> str:
    follower, rng, runs = Follower(), Random("alarms"), 2000
    for _ in range(runs):
        follower.track(draw(crew, rng))
    return f"{follower.changes} in {runs}"


def _changes(histories: int) -> None:
    print(
        "\nafter a change, at ten minutes' longest pause: gain of ten runs each (and in nineteen of twenty repetitions"
    )
    print("with as many histories, by bootstrap); after fifty; best possible")
    for crew in CREWS:
        for factor in (2.0, 0.5):
            print(f"{crew:12} x{factor}  {_change(crew, factor, histories)}", flush=True)


def _change(crew: str, factor: float, histories: int) -> str:
    run_times = [factor * run_time for run_time in even_shares(crew, RUNS)]
    windows: list[list[Cost]] = [[] for _ in range(AFTER_CHANGE // WINDOW)]
    after = []
    for seed in range(histories):
        follower, rng = Follower(RARE_POLLS), Random(seed)
        for _ in range(HISTORY):
            follower.track(draw(crew, rng))
        for window in windows:
            tracked_runs = [follower.track(factor * draw(crew, rng)) for _ in range(WINDOW)]
            window.append(Cost(fmean(run.polls for run in tracked_runs), fmean(run.lag for run in tracked_runs)))
        after.append(gain(cost_as_learned(follower, run_times), run_times))
    tens = "  ".join(f"{_pooled(window, run_times):.2f} {_spread(window, run_times)}" for window in windows)
    return f"{tens}   {fmean(after):.2f}   {gain(best(crew, POLLS, RARE_POLLS, factor), run_times):.2f}"


def _pooled(costs: Sequence[Cost], run_times: list[float]) -> float:
    """The gain of many histories together: single runs are too few to compare."""
    return even_lag(run_times, fmean(paid.polls for paid in costs)) / fmean(paid.lag for paid in costs)


def _spread(costs: Sequence[Cost], run_times: list[float]) -> str:
    """The range of the gain in nineteen of twenty resamples of these histories (bootstrap)."""
    rng = Random("draws")
    gains = sorted(_pooled(rng.choices(costs, k=len(costs)), run_times) for _ in range(DRAWS))
    return f"({gains[DRAWS // 40]:.2f}-{gains[-1 - DRAWS // 40]:.2f})"


def _tasks(histories: int) -> None:
    """Three tasks of independent length in sequence: the gain from knowing how many are finished, by dialect."""
    print("\nthree lognormal tasks of 20 s: mean lag and polls, by the form of the status")
    for dialect in DIALECTS:
        tracked_runs = [run for seed in range(histories) for run in _three_tasks(seed, dialect)]
        print(
            f"{dialect:26}  {fmean(run.lag for run in tracked_runs):.2f} s  "
            f"{fmean(run.polls for run in tracked_runs):.2f}"
        )


def _three_tasks(seed: int, dialect: str) -> list[Cost]:
    rng, follower, found = Random(seed), Follower(dialect=dialect), []
    for number in range(HISTORY + 200):
        first, second, third = (20.0 * rng.lognormvariate(0.0, 0.8) for _ in range(3))
        run = follower.track(first + second + third, (first, first + second), 3)
        if number >= HISTORY:
            found.append(Cost(run.polls, run.lag))
    return found


def _fronts(crew: str) -> list[Curve]:
    """The cost of each way to poll for several numbers of polls."""
    ways: dict[str, Callable[[float], Cost]] = {
        "fixed interval": lambda polls: fixed(crew, polls),
        "exponential backoff": lambda polls: backoff(crew, polls),
        "hazard known": lambda polls: by_hazard(crew, polls),
        "optimum, known": lambda polls: best(crew, polls),
        "learned from 200 runs": lambda polls: _mean(
            [run_time_stats(crew, polls, seed) for seed in range(FRONT_HISTORIES)]
        ),
    }
    return [Curve(name, [(paid.polls, paid.lag) for paid in map(way, FRONT)]) for name, way in ways.items()]


def _mean(costs: Sequence[Cost]) -> Cost:
    return Cost(fmean(paid.polls for paid in costs), fmean(paid.lag for paid in costs))


if __name__ == "__main__":
    main()
