"""Where to place the polls of a run, given the estimate of how long runs take: the least mean lag for the polls paid.

The price c of one poll, in seconds of lag that it is worth, makes one sum of "few polls" and "little lag". With many
polls, that sum is least where the pause at age t is sqrt(2c / h(t)), h being the hazard: the share of the runs still
under way that end per second. So one poll belongs wherever the integral of sqrt(h / 2c) reaches 1, 2, 3 …

With few polls that rule wastes a little, mostly where runs begin to end suddenly. So it only spreads a grid of
candidates, a few between each two of its polls, and the best of these are chosen exactly: the best next poll b for a
run that is under way at age a follows from what comes after it,

    W(a) = min over b > a of  c·S(a) + ∫ (b - t) dF(t) from a to b + W(b)

with F the share of runs that are over and S = 1 - F: dynamic programming from the oldest age down. Written out, the
sum is (b·F(b) - M(b) + W(b)) - b·F(a) plus terms without b, where M(a) = ∫ t dF up to a: for each b a straight line in
F(a). Keeping the lower hull of these lines makes one pass over the grid do.

The formulas, and what this gains, are in docs/polling.md.
"""

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise

from bridge.core.polling.distribution import Estimate, between

_PER_POLL = 6  # candidates between two polls of the rule,
_ENOUGH = 500  # and no more than that in all: where polls are many, the rule alone is as good
_RARE = 1e-3  # runs older than all but this share are polled by the rule alone
_TRIES = 12  # of the price, each closer to the polls wanted
_DEAREST = 4.0  # times the price without limits: polls that the longest pause forces are not saved on lag
_CLOSE = 0.01  # relative; near enough to the polls wanted
_HALVINGS = 30  # of the range in which the rule's step is searched


@dataclass(frozen=True, slots=True)
class Plan:
    """For each of some ages in seconds, the age of the best next poll.

    `price`: the seconds of lag that one poll is worth.
    """

    ages: list[float]
    next_ages: list[float]
    price: float

    def next_age(self, age: float) -> float:
        """Return the age at which to poll next a run in progress at `age`."""
        oldest = self.ages[-1]
        if age >= oldest:  # what is left is the prior's tail, where pauses grow with the root of the age
            growth = math.sqrt(age / oldest) if oldest else 1.0
            return age + (self.next_ages[-1] - oldest) * growth
        return between(self.ages, self.next_ages, age)


def plan_polls(estimate: Estimate, polls: float, shortest: float, longest: float) -> Plan:
    """The plan with the least mean lag among those that cost `polls` polls per run.

    Pauses are held between `shortest` and `longest` seconds, as far as the candidates permit.
    """
    step = _rule_step(estimate, polls)
    candidates = _Candidates(_between_polls(estimate, step, longest), shortest, longest)
    price, low, high = step * step, 0.0, _DEAREST * step * step
    expected = candidates.choose(price)
    for _ in range(_TRIES):
        if abs(expected / polls - 1.0) < _CLOSE:
            break
        low, high = (price, high) if expected > polls else (low, price)
        price *= (expected / polls) ** 2  # pauses grow with the root of the price, as a rule
        if not low < price < high:
            price = math.sqrt(low * high)
        expected = candidates.choose(price)
    return candidates.plan(price)


def plan_polls_at_price(estimate: Estimate, price: float, shortest: float, longest: float) -> Plan:
    """Return the plan with the least sum of lag and polls, at `price` seconds of lag for a poll."""
    candidates = _Candidates(_between_polls(estimate, math.sqrt(price), longest), shortest, longest)
    candidates.choose(price)
    return candidates.plan(price)


def _effort(estimate: Estimate) -> list[float]:
    """The integral of sqrt(h / 2) up to each age: the polls that the rule makes by then, times the root of c."""
    found, total, ages, over = [0.0], 0.0, estimate.ages, estimate.over
    for index in range(1, len(ages)):
        ended = max(over[index] - over[index - 1], 0.0)  # rounding may have it end backwards
        under_way = 1.0 - (over[index] + over[index - 1]) / 2
        total += math.sqrt(ended * (ages[index] - ages[index - 1]) / (2 * under_way))
        found.append(total)
    return found


def _rule_step(estimate: Estimate, polls: float) -> float:
    """The effort between two polls with which the rule makes as many polls as wanted."""
    effort = _effort(estimate)
    low, high = effort[-1] * 1e-4, effort[-1]
    for _ in range(_HALVINGS):
        step = math.sqrt(low * high)
        if _polls_of_rule(estimate, effort, step, polls) > polls:
            low = step
        else:
            high = step
    return high


def _polls_of_rule(estimate: Estimate, effort: list[float], step: float, enough: float) -> float:
    """How many polls a run costs under the rule, as far as `enough` is not exceeded."""
    expected, spent = 1.0, step
    while spent < effort[-1] and expected <= enough:
        expected += 1.0 - between(effort, estimate.over, spent)
        spent += step
    return expected


def _between_polls(estimate: Estimate, step: float, longest: float) -> Estimate:
    """The estimate on candidates for polls, up to ages that are rare.

    Some are between each two polls of the rule, and where it makes none, between each two that `longest` forces.
    """
    effort = _effort(estimate)
    end = effort[min(bisect_left(estimate.over, 1.0 - _RARE), len(effort) - 1)]
    count = max(2, min(math.ceil(end / step * _PER_POLL), _ENOUGH))
    ages = [between(effort, estimate.ages, number * end / count) for number in range(count + 1)]
    ages = _filled(ages, max(longest / _PER_POLL, ages[-1] / _ENOUGH))
    return Estimate(ages, [estimate.over_at(age) for age in ages], [estimate.seen_over_at(age) for age in ages])


def _filled(ages: list[float], gap: float) -> list[float]:
    """The ages, with more of them evenly spread between those that are further apart than `gap`."""
    filled = [ages[0]]
    for before, after in pairwise(ages):
        parts = math.ceil((after - before) / gap)
        filled += [before + (after - before) * part / parts for part in range(1, parts)]
        filled.append(after)
    return filled


class _Candidates:
    """Ages at which a poll is possible; the best of them are chosen anew for each price that is tried."""

    def __init__(self, estimate: Estimate, shortest: float, longest: float) -> None:
        self._ages = ages = estimate.ages
        self._over, self._seen = estimate.over, estimate.seen
        self._moments = _moments(estimate)
        self._last = last = len(ages) - 1
        self._soonest = [min(bisect_left(ages, age + shortest), last) for age in ages]
        self._latest = [max(bisect_right(ages, age + longest) - 1, index + 1) for index, age in enumerate(ages)]
        self._chosen = [last] * len(ages)

    def choose(self, price: float) -> float:
        """Choose what follows each candidate; return how many polls that would have cost each of the runs seen."""
        ages, over, moments = self._ages, self._over, self._moments
        costs = [0.0] * len(ages)
        lines, ready = _LowestLine(), len(ages)
        for index in range(self._last - 1, -1, -1):
            while ready > self._soonest[index]:
                ready -= 1
                lines.add(-ages[ready], ages[ready] * over[ready] - moments[ready] + costs[ready], ready)
            chosen = min(lines.at(over[index]), self._latest[index])
            under_way = 1.0 - over[index]
            lag = ages[chosen] * (over[chosen] - over[index]) - (moments[chosen] - moments[index])
            costs[index] = price * under_way + lag + costs[chosen]
            self._chosen[index] = chosen
        return self._expected_polls()

    def _expected_polls(self) -> float:
        """Mean polls of the runs seen, of which no estimate has smeared the latest ends out."""
        index, polls = 0, 0.0
        while index < self._last:
            polls += 1.0 - self._seen[index]
            index = self._chosen[index]
        return polls

    def plan(self, price: float) -> Plan:
        """The plan chosen last, up to the age from which only the oldest candidate is left to choose."""
        covered = self._chosen.index(self._last) + 1
        next_ages = [self._ages[index] for index in self._chosen[:covered]]
        return Plan(self._ages[:covered], next_ages, price)


class _LowestLine:
    """The lowest of straight lines, which come by growing slope and are asked for at ever smaller places."""

    def __init__(self) -> None:
        self._lines: list[tuple[float, float, int]] = []
        self._front = 0

    def add(self, slope: float, height: float, name: int) -> None:
        """One more line; those that it makes useless everywhere are forgotten."""
        lines = self._lines
        while len(lines) - self._front > 1 and _is_useless(lines[-2], lines[-1], slope, height):
            lines.pop()
        lines.append((slope, height, name))

    def at(self, plan_polls: float) -> int:
        """The name of the line that is lowest at this place."""
        lines, front = self._lines, self._front
        while front + 1 < len(lines) and _height(lines[front + 1], plan_polls) <= _height(lines[front], plan_polls):
            front += 1
        self._front = front
        return lines[front][2]


def _height(line: tuple[float, float, int], plan_polls: float) -> float:
    return line[0] * plan_polls + line[1]


def _is_useless(left: tuple[float, float, int], line: tuple[float, float, int], slope: float, height: float) -> bool:
    """Whether a line is nowhere below both the one before it and a new one."""
    return (height - left[1]) * (line[0] - left[0]) <= (line[1] - left[1]) * (slope - left[0])


def _moments(estimate: Estimate) -> list[float]:
    """The integral of t dF(t) up to each age."""
    found, total, ages, over = [0.0], 0.0, estimate.ages, estimate.over
    for index in range(1, len(ages)):
        total += (over[index] - over[index - 1]) * (ages[index] + ages[index - 1]) / 2
        found.append(total)
    return found
