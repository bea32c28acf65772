"""The ways to poll that are compared: each says at which ages it looks at a run, for as many polls as are wanted."""

import math
from collections.abc import Callable
from random import Random

from bench.polling.world import POLICY, Cost, Follower, cost, draw, even, even_shares
from bridge.core.polling.distribution import Estimate
from bridge.core.polling.optimizer import plan_polls
from bridge.core.runs.model import CrewPolicy

RUNS = 2000  # that stand for all runs of a crew
HISTORY = 200  # runs before a crew counts as learned
_PATHS = 3  # the product's own pauses vary by a twentieth


def fixed(crew: str, polls: float) -> Cost:
    """A look every so many seconds."""
    return _tuned(lambda interval: even(interval, even_shares(crew, RUNS)), 0.1, 2000.0, polls)


def backoff(crew: str, polls: float) -> Cost:
    """The first pause is 1 s, each one a factor longer than the one before, up to a minute."""
    run_times = even_shares(crew, RUNS)

    def with_factor(factor: float) -> Cost:
        ages, pause = [1.0], 1.0
        while ages[-1] < run_times[-1]:
            pause = min(pause * factor, 60.0)
            ages.append(ages[-1] + pause)
        return cost(ages, run_times)

    return _tuned(with_factor, 1.001, 60.0, polls)


def by_hazard(crew: str, polls: float) -> Cost:
    """The pause is sqrt(2c / hazard), by somebody who knows how long the crew's runs take."""
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
            share = (number * step - effort[index]) / (effort[index + 1] - effort[index])
            ages.append(known[index] + share * (known[index + 1] - known[index]))
        return cost([*ages, run_times[-1]], run_times)

    return _tuned(with_step, total / 300.0, total, polls)


def best(crew: str, polls: float, policy: CrewPolicy = POLICY, factor: float = 1.0) -> Cost:
    """The exact optimum, by somebody who knows how long the crew's runs take."""
    run_times = [factor * run_time for run_time in even_shares(crew, RUNS)]
    over = [(index + 0.5) / RUNS for index in range(RUNS)]
    known = Estimate(
        [0.0, 0.999 * run_times[0], *_apart(run_times), 1.001 * run_times[-1] + 0.1],
        (shares := [0.0, 1e-9, *over, 1.0 - 1e-9]),
        shares,
    )
    plan = plan_polls(known, polls, policy.poll_min_interval, policy.poll_max_interval)
    ages = [plan.next_age(0.0)]
    while ages[-1] < run_times[-1]:
        ages.append(plan.next_age(ages[-1]))
    return cost(ages, run_times)


def run_time_stats(crew: str, polls: float, seed: int) -> Cost:
    """The product, after it has followed so many runs of which it saw what its own looks showed."""
    follower, dice = Follower(CrewPolicy(deadline=POLICY.deadline, poll_per_run=polls)), Random(seed)
    for _ in range(HISTORY):
        follower.track(draw(crew, dice))
    return cost_as_learned(follower, even_shares(crew, RUNS))


def cost_as_learned(follower: Follower, run_times: list[float]) -> Cost:
    """What following runs costs with what is known now."""
    paths = [cost(follower.would_look(run_times[-1]), run_times) for _ in range(_PATHS)]
    return Cost(sum(path.polls for path in paths) / _PATHS, sum(path.lag for path in paths) / _PATHS)


def _tuned(policy: Callable[[float], Cost], low: float, high: float, polls: float) -> Cost:
    """The policy with the number, between two, that makes it cost so many polls; the greater, the fewer."""
    for _ in range(30):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if policy(middle).polls > polls else (low, middle)
    return policy(high)


def _apart(run_times: list[float]) -> list[float]:
    """The same, without two that are equal: those that a deadline has cut."""
    return [run_time + 1e-6 * index for index, run_time in enumerate(run_times)]
