"""Place the polls of a run so that the mean lag is minimal for a given number of polls, by the estimated run times.

The price c of a poll, in seconds of lag, combines the number of polls and the lag into one cost. The best next poll b
for a run in progress at age a follows from what comes after it, by dynamic programming from the greatest age down:

    W(a) = min over b > a of  c·S(a) + ∫ (b - t) dF(t) from a to b + W(b)

with F the share of runs that have ended and S = 1 - F. Candidates for b are spread evenly over the integral of
sqrt(h / 2), where h is the hazard: the share of the runs in progress that end per second. With many polls, those of the
optimum are sqrt(c) apart on that scale (Barlow, Hunter, and Proschan, 1963; Keller, 1974), and several candidates lie
between each two of them. The best next poll of an age is never later than that of a greater age, which shortens the
search.

docs/polling.md derives the formulas and measures the gain.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

from bridge.core.polling.distribution import Estimate, interpolate

_CANDIDATES_PER_POLL = 6
_MAX_CANDIDATES = 500
_TAIL = 1e-3  # share of runs, the oldest, for which there are no candidates
_PRICES = (1 / 16, 4.0)  # times the price without limits; above, because polls forced by `longest` cannot be saved
_BISECTIONS = 10  # of the range of prices
_TOLERANCE = 0.01  # relative deviation from the requested number of polls


@dataclass(frozen=True, slots=True)
class Plan:
    """For each of `ages`, the age of the best next poll, in seconds; `price`: of one poll, in seconds of lag."""

    ages: list[float]
    next_ages: list[float]
    price: float

    def next_age(self, age: float) -> float:
        """Return the age of the next poll of a run in progress at `age`."""
        oldest = self.ages[-1]
        if age >= oldest:  # the tail of the prior, where pauses grow with the square root of the age
            growth = math.sqrt(age / oldest) if oldest else 1.0
            return age + (self.next_ages[-1] - oldest) * growth
        return interpolate(self.ages, self.next_ages, age)


def plan_polls(estimate: Estimate, polls: float, shortest: float, longest: float) -> Plan:
    """Return the plan with the least mean lag among those with a mean of `polls` polls per run, at least one.

    Pauses are between `shortest` and `longest` seconds, as far as the candidates permit. Polls are counted over the
    observed runs, because smoothing would exaggerate the latest ends.
    """
    effort = _effort(estimate)
    in_progress = [1.0 - (before + after) / 2 for before, after in pairwise(estimate.observed)]
    spent = sum(left * (after - before) for left, (before, after) in zip(in_progress, pairwise(effort), strict=True))
    step = spent / (polls - 0.5)  # between two polls; a run ends halfway
    candidates = _at_candidates(estimate, effort, step, longest)
    low, high = (factor * step * step for factor in _PRICES)
    nearest: tuple[float, float, list[int]] = math.inf, 0.0, []
    for _ in range(_BISECTIONS):
        price = math.sqrt(low * high)
        chosen = _choose(candidates, price, shortest, longest)
        expected = _expected_polls(candidates, chosen)
        nearest = min(nearest, (abs(expected / polls - 1.0), price, chosen))
        if nearest[0] < _TOLERANCE:
            break
        low, high = (price, high) if expected > polls else (low, price)
    _, price, chosen = nearest
    return _plan(candidates, chosen, price)


def plan_polls_at_price(estimate: Estimate, price: float, shortest: float, longest: float) -> Plan:
    """Return the plan with the least cost, at a price of a poll in seconds of lag."""
    candidates = _at_candidates(estimate, _effort(estimate), math.sqrt(price), longest)
    return _plan(candidates, _choose(candidates, price, shortest, longest), price)


def _effort(estimate: Estimate) -> list[float]:
    """Return the integral of sqrt(h / 2) up to each age."""
    integral, ages, ended = [0.0], estimate.ages, estimate.ended
    for index in range(1, len(ages)):
        newly_ended = max(ended[index] - ended[index - 1], 0.0)  # negative by rounding
        in_progress = 1.0 - (ended[index] + ended[index - 1]) / 2
        integral.append(integral[-1] + math.sqrt(newly_ended * (ages[index] - ages[index - 1]) / (2 * in_progress)))
    return integral


def _at_candidates(estimate: Estimate, effort: list[float], step: float, longest: float) -> Estimate:
    """Return the estimate at the candidate ages; where few runs end, there are some between polls `longest` apart."""
    end = effort[min(bisect_left(estimate.ended, 1.0 - _TAIL), len(effort) - 1)]
    count = max(2, min(math.ceil(end / step * _CANDIDATES_PER_POLL), _MAX_CANDIDATES))
    even = [interpolate(effort, estimate.ages, number * end / count) for number in range(count + 1)]
    gap = max(longest / _CANDIDATES_PER_POLL, even[-1] / _MAX_CANDIDATES)
    ages = [0.0]
    for before, after in pairwise(even):
        parts = math.ceil((after - before) / gap)
        ages += [before + (after - before) * part / parts for part in range(1, parts + 1)]
    return Estimate(
        ages, [estimate.ended_share_at(age) for age in ages], [estimate.observed_share_at(age) for age in ages]
    )


def _choose(candidates: Estimate, price: float, shortest: float, longest: float) -> list[int]:
    """Return the index of the best next poll of each candidate; that of the last is itself."""
    ages, ended = candidates.ages, candidates.ended
    moments = [0.0]  # the integral of t dF(t) up to each age
    for (before, after), (fewer, more) in zip(pairwise(ages), pairwise(ended), strict=True):
        moments.append(moments[-1] + (more - fewer) * (before + after) / 2)
    costs, chosen = [0.0] * len(ages), [len(ages) - 1] * len(ages)
    for index in range(len(ages) - 2, -1, -1):
        first = min(bisect_left(ages, ages[index] + shortest, index + 1), chosen[index + 1])
        lowest, best = math.inf, first
        for later in range(first, chosen[index + 1] + 1):
            if later > first and ages[later] > ages[index] + longest:
                break
            cost = ages[later] * (ended[later] - ended[index]) - moments[later] + costs[later]
            if cost < lowest:
                lowest, best = cost, later
        chosen[index] = best
        costs[index] = price * (1.0 - ended[index]) + moments[index] + lowest
    return chosen


def _expected_polls(candidates: Estimate, chosen: list[int]) -> float:
    """Return the mean number of polls of the observed runs."""
    index, polls = 0, 0.0
    while chosen[index] > index:
        polls += 1.0 - candidates.observed[index]
        index = chosen[index]
    return polls


def _plan(candidates: Estimate, chosen: list[int], price: float) -> Plan:
    """Return the plan up to the first age whose next poll is the last candidate."""
    covered = chosen.index(len(chosen) - 1) + 1
    return Plan(candidates.ages[:covered], [candidates.ages[index] for index in chosen[:covered]], price)
