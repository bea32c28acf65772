"""Place the polls of a run so that the mean lag is minimal for a given number of polls, by the estimated run times.

The price c of a poll, in seconds of lag, combines the number of polls and the lag into one cost. With many polls, the
cost is minimal if the pause at age t is sqrt(2c / h(t)), where h is the hazard: the share of the runs in progress that
end per second. So a poll is due wherever the integral of sqrt(h / 2c) reaches 1, 2, 3 …

With few polls, that rule is slightly suboptimal, mostly where runs suddenly begin to end. So it only determines a grid
of candidates, several between each two of its polls, and the best of these are chosen exactly: the best next poll b for
a run in progress at age a follows from what comes after it,

    W(a) = min over b > a of  c·S(a) + ∫ (b - t) dF(t) from a to b + W(b)

with F the share of runs that have ended and S = 1 - F: dynamic programming from the greatest age down. Expanded, the
cost is (b·F(b) - M(b) + W(b)) - b·F(a) plus terms without b, where M(a) = ∫ t dF up to a: for each b, a straight line
in F(a). With the lower envelope of these lines, one pass over the grid is sufficient.

docs/polling.md derives the formulas and measures the gain.
"""

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise

from bridge.core.polling.distribution import Estimate, interpolate

_CANDIDATES_PER_POLL = 6  # between two polls of the rule,
_MAX_CANDIDATES = 500  # in total; with many polls, the rule alone is as good
_TAIL = 1e-3  # share of runs, the oldest, that are polled by the rule alone
_MAX_ITERATIONS = 12  # of the search for the price
_MAX_PRICE = 4.0  # times the price without limits, because polls forced by the longest pause cannot be saved
_TOLERANCE = 0.01  # relative deviation from the requested number of polls
_BISECTIONS = 30  # of the range of the rule's step


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
    """Return the plan with the least mean lag among those with a mean of `polls` polls per run.

    Pauses are between `shortest` and `longest` seconds, as far as the candidates permit.
    """
    step = _rule_step(estimate, polls)
    candidates = _Candidates(_at_candidates(estimate, step, longest), shortest, longest)
    price, low, high = step * step, 0.0, _MAX_PRICE * step * step
    expected = candidates.choose(price)
    for _ in range(_MAX_ITERATIONS):
        if abs(expected / polls - 1.0) < _TOLERANCE:
            break
        low, high = (price, high) if expected > polls else (low, price)
        price *= (expected / polls) ** 2  # pauses grow roughly with the square root of the price
        if not low < price < high:
            price = math.sqrt(low * high)
        expected = candidates.choose(price)
    return candidates.plan(price)


def plan_polls_at_price(estimate: Estimate, price: float, shortest: float, longest: float) -> Plan:
    """Return the plan with the least cost, at a price of a poll in seconds of lag."""
    candidates = _Candidates(_at_candidates(estimate, math.sqrt(price), longest), shortest, longest)
    candidates.choose(price)
    return candidates.plan(price)


def _effort(estimate: Estimate) -> list[float]:
    """Return the integral of sqrt(h / 2) up to each age: the polls that the rule makes by then, times sqrt(c)."""
    integral, total, ages, ended = [0.0], 0.0, estimate.ages, estimate.ended
    for index in range(1, len(ages)):
        newly_ended = max(ended[index] - ended[index - 1], 0.0)  # negative by rounding
        in_progress = 1.0 - (ended[index] + ended[index - 1]) / 2
        total += math.sqrt(newly_ended * (ages[index] - ages[index - 1]) / (2 * in_progress))
        integral.append(total)
    return integral


def _rule_step(estimate: Estimate, polls: float) -> float:
    """Return the effort between two polls with which the rule makes `polls` polls."""
    effort = _effort(estimate)
    low, high = effort[-1] * 1e-4, effort[-1]
    for _ in range(_BISECTIONS):
        step = math.sqrt(low * high)
        if _polls_of_rule(estimate, effort, step, polls) > polls:
            low = step
        else:
            high = step
    return high


def _polls_of_rule(estimate: Estimate, effort: list[float], step: float, limit: float) -> float:
    """Return the mean number of polls of a run under the rule; stop counting beyond `limit`."""
    expected, spent = 1.0, step
    while spent < effort[-1] and expected <= limit:
        expected += 1.0 - interpolate(effort, estimate.ended, spent)
        spent += step
    return expected


def _at_candidates(estimate: Estimate, step: float, longest: float) -> Estimate:
    """Return the estimate at the candidate ages, without the tail.

    There are candidates between each two polls of the rule, and where it makes none, between those that `longest`
    forces.
    """
    effort = _effort(estimate)
    end = effort[min(bisect_left(estimate.ended, 1.0 - _TAIL), len(effort) - 1)]
    count = max(2, min(math.ceil(end / step * _CANDIDATES_PER_POLL), _MAX_CANDIDATES))
    ages = [interpolate(effort, estimate.ages, number * end / count) for number in range(count + 1)]
    ages = _filled(ages, max(longest / _CANDIDATES_PER_POLL, ages[-1] / _MAX_CANDIDATES))
    return Estimate(
        ages, [estimate.ended_share_at(age) for age in ages], [estimate.observed_share_at(age) for age in ages]
    )


def _filled(ages: list[float], gap: float) -> list[float]:
    """Return the ages, with more of them inserted evenly where two are further apart than `gap`."""
    filled = [ages[0]]
    for before, after in pairwise(ages):
        parts = math.ceil((after - before) / gap)
        filled += [before + (after - before) * part / parts for part in range(1, parts)]
        filled.append(after)
    return filled


class _Candidates:
    """The ages at which a poll is possible, and the best next poll of each at the price chosen last."""

    def __init__(self, estimate: Estimate, shortest: float, longest: float) -> None:
        self._ages = ages = estimate.ages
        self._ended, self._observed = estimate.ended, estimate.observed
        self._moments = _moments(estimate)
        self._last = last = len(ages) - 1
        self._soonest = [min(bisect_left(ages, age + shortest), last) for age in ages]
        self._latest = [max(bisect_right(ages, age + longest) - 1, index + 1) for index, age in enumerate(ages)]
        self._chosen = [last] * len(ages)

    def choose(self, price: float) -> float:
        """Choose the next poll of each candidate; return the mean number of polls of the observed runs."""
        ages, ended, moments = self._ages, self._ended, self._moments
        costs = [0.0] * len(ages)
        lines, ready = _LowerEnvelope(), len(ages)
        for index in range(self._last - 1, -1, -1):
            while ready > self._soonest[index]:
                ready -= 1
                lines.add(-ages[ready], ages[ready] * ended[ready] - moments[ready] + costs[ready], ready)
            chosen = min(lines.lowest_at(ended[index]), self._latest[index])
            in_progress = 1.0 - ended[index]
            lag = ages[chosen] * (ended[chosen] - ended[index]) - (moments[chosen] - moments[index])
            costs[index] = price * in_progress + lag + costs[chosen]
            self._chosen[index] = chosen
        return self._expected_polls()

    def _expected_polls(self) -> float:
        """Return the mean polls of the observed runs; smoothing would exaggerate the latest ends."""
        index, polls = 0, 0.0
        while index < self._last:
            polls += 1.0 - self._observed[index]
            index = self._chosen[index]
        return polls

    def plan(self, price: float) -> Plan:
        """Return the plan chosen last, up to the first age whose next poll is the last candidate."""
        covered = self._chosen.index(self._last) + 1
        next_ages = [self._ages[index] for index in self._chosen[:covered]]
        return Plan(self._ages[:covered], next_ages, price)


class _LowerEnvelope:
    """The lower envelope of straight lines, added by increasing slope and queried at decreasing x."""

    def __init__(self) -> None:
        self._lines: list[tuple[float, float, int]] = []
        self._front = 0

    def add(self, slope: float, height: float, name: int) -> None:
        """Add a line; remove those that are no longer part of the envelope."""
        lines = self._lines
        while len(lines) - self._front > 1 and _is_redundant(lines[-2], lines[-1], slope, height):
            lines.pop()
        lines.append((slope, height, name))

    def lowest_at(self, x: float) -> int:
        """Return the name of the lowest line at x."""
        lines, front = self._lines, self._front
        while front + 1 < len(lines) and _height(lines[front + 1], x) <= _height(lines[front], x):
            front += 1
        self._front = front
        return lines[front][2]


def _height(line: tuple[float, float, int], x: float) -> float:
    return line[0] * x + line[1]


def _is_redundant(left: tuple[float, float, int], line: tuple[float, float, int], slope: float, height: float) -> bool:
    """Return whether a line is nowhere below both its predecessor and a new line."""
    return (height - left[1]) * (line[0] - left[0]) <= (line[1] - left[1]) * (slope - left[0])


def _moments(estimate: Estimate) -> list[float]:
    """Return the integral of t dF(t) up to each age."""
    integral, total, ages, ended = [0.0], 0.0, estimate.ages, estimate.ended
    for index in range(1, len(ages)):
        total += (ended[index] - ended[index - 1]) * (ages[index] + ages[index - 1]) / 2
        integral.append(total)
    return integral
