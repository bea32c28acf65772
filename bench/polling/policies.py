"""The compared ways to poll: each gives the ages at which it polls a run, for a given number of polls per run."""

import math
from collections.abc import Callable
from random import Random

from bench.polling.world import POLICY, Cost, Follower, cost, draw, even, even_shares
from bridge.core.crew_policy import CrewPolicy
from bridge.core.polling.distribution import Estimate
from bridge.core.polling.optimizer import plan_polls

RUNS = 2000  # represent all runs of a crew
HISTORY = 200  # runs before a crew counts as learned
_PATHS = 3  # the real intervals vary by a twentieth


def fixed(crew: str, polls: float) -> Cost:
    """A poll at a fixed interval."""
    return _tuned(lambda interval: even(interval, even_shares(crew, RUNS)), 0.1, 2000.0, polls)


def backoff(crew: str, polls: float) -> Cost:
    """The first interval is 1 s, each one longer by a factor than the one before, up to a minute."""
    run_times = even_shares(crew, RUNS)

    def with_factor(factor: float) -> Cost:
        ages, pause = [1.0], 1.0
        while ages[-1] < run_times[-1]:
            pause = min(pause * factor, 60.0)
            ages.append(ages[-1] + pause)
        return cost(ages, run_times)

    return _tuned(with_factor, 1.001, 60.0, polls)


def by_hazard(crew: str, polls: float) -> Cost:
    """Intervals of sqrt(2c / hazard), with known run times."""
    run_times = even_shares(crew, RUNS)
    effort, total = [0.0], 0.0
    for index, (before, after) in enumerate(zip([0.0, *run_times], run_times, strict=False)):
        total += math.sqrt((after - before) / (2.0 * (len(run_times) - index - 0.5)))
        effort.append(total)

    def with_step(step: float) -> Cost:
        ages, known, index = [], [0.0, *run_times], 0
        for number in range(1, math.ceil(total / step)):
            while effort[index + 1] < number * step:
                index += 1
            fraction = (number * step - effort[index]) / (effort[index + 1] - effort[index])
            ages.append(known[index] + fraction * (known[index + 1] - known[index]))
        return cost([*ages, run_times[-1]], run_times)

    return _tuned(with_step, total / 300.0, total, polls)


def best(crew: str, polls: float, policy: CrewPolicy = POLICY, factor: float = 1.0) -> Cost:
    """The exact optimum, with known run times."""
    run_times = [factor * run_time for run_time in even_shares(crew, RUNS)]
    ended = [(index + 0.5) / RUNS for index in range(RUNS)]
    known = Estimate(
        [0.0, 0.999 * run_times[0], *_distinct(run_times), 1.001 * run_times[-1] + 0.1],
        (fractions := [0.0, 1e-9, *ended, 1.0 - 1e-9]),
        fractions,
    )
    plan = plan_polls(known, polls, policy.poll_min_interval, policy.poll_max_interval)
    ages = [plan.next_age(0.0)]
    while ages[-1] < run_times[-1]:
        ages.append(plan.next_age(ages[-1]))
    return cost(ages, run_times)


def run_time_stats(crew: str, polls: float, seed: int) -> Cost:
    """The bridge, after it has tracked this many runs with its own polls."""
    follower, rng = Follower(CrewPolicy(deadline=POLICY.deadline, poll_per_run=polls)), Random(seed)
    for _ in range(HISTORY):
        follower.track(draw(crew, rng))
    return cost_as_learned(follower, even_shares(crew, RUNS))


def cost_as_learned(follower: Follower, run_times: list[float]) -> Cost:
    """The cost of tracking runs with the current statistics."""
    paths = [cost(follower.planned_ages(run_times[-1]), run_times) for _ in range(_PATHS)]
    return Cost(sum(path.polls for path in paths) / _PATHS, sum(path.lag for path in paths) / _PATHS)


def _tuned(policy: Callable[[float], Cost], low: float, high: float, polls: float) -> Cost:
    """The policy with the parameter, between two bounds, that costs this many polls; a larger one costs fewer."""
    for _ in range(30):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if policy(middle).polls > polls else (low, middle)
    return policy(high)


def _distinct(run_times: list[float]) -> list[float]:
    """The same without two equal ones, as cut off by a deadline."""
    return [run_time + 1e-6 * index for index, run_time in enumerate(run_times)]
