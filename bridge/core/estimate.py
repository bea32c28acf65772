"""How long a crew's runs take, estimated from those already seen: the share of runs still under way, by age.

Run times are spread over orders of magnitude, so everything here happens in log time. Each run seen is smeared into a
small hump as wide as the distance to its √n-th neighbour: narrow where runs crowd together, wide where they are
sparse. One wide prior, worth a few runs, keeps every age possible: no crew is so regular that it can never be late.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

SHORTEST = 0.01  # seconds; run times are held above it, so that their logarithms stay sane
PRIOR_WORTH = 3.0  # runs
PRIOR_SPREAD = 0.8  # of the prior, in log time: a tenth of it is beyond 6 times the median, a hundredth beyond 40 times
NARROWEST = 0.02  # half-width of a hump in log time; runs that all take equally long would have none
_RANKS = 100  # grid points at evenly spread ranks of the runs seen,
_AROUND = 20  # and around so many of them, for where many runs took equally long
_FILL = 64  # grid points evenly spread over log time, for the gaps and for what was never seen
_ALMOST_ALL = 1.0 - 1e-9  # as many as ever count as over: some always go on, which rounding must not deny
_REACH = 7.0  # spreads of the prior on either side of the median that the grid covers


@dataclass(frozen=True, slots=True)
class Estimate:
    """The share of runs that are over at each of some ages; `ages` in seconds, from 0 on, both increasing."""

    ages: list[float]
    over: list[float]

    def over_at(self, age: float) -> float:
        """The share of runs that are over at this age."""
        return between(self.ages, self.over, age)

    def age_at(self, over: float) -> float:
        """The age at which this share of runs is over."""
        return between(self.over, self.ages, over)

    def between(self, lower: float, upper: float, chance: float) -> float:
        """An age between two others, drawn by `chance` from 0 to 1 from those at which runs are thought to end."""
        first, last = self.over_at(lower), self.over_at(upper)
        return min(max(self.age_at(first + chance * (last - first)), lower), upper)


def estimate(seconds: Sequence[float], weights: Sequence[float] | None = None) -> Estimate:
    """The estimate from run times in seconds, at least one; `weights` says how much each counts, 1 as a rule."""
    counted = sorted(zip(seconds, weights or [1.0] * len(seconds), strict=True))
    logs = [math.log(max(took, SHORTEST)) for took, _ in counted]
    worth = [weight for _, weight in counted]
    grid = _grid(logs)
    seen = _smeared(logs, worth, grid)
    middle, total = logs[len(logs) // 2], sum(worth) + PRIOR_WORTH
    over = [(share + PRIOR_WORTH * _prior(point - middle)) / total for point, share in zip(grid, seen, strict=True)]
    return Estimate([0.0, *(math.exp(point) for point in grid)], [0.0, *(min(share, _ALMOST_ALL) for share in over)])


def likeliest_scale(former: Estimate, seconds: Sequence[float]) -> float:
    """The factor by which run times must have changed for those seen now to be likeliest."""
    return max((math.exp2(step / 8) for step in range(-40, 41)), key=lambda scale: _likelihood(former, seconds, scale))


def _likelihood(former: Estimate, seconds: Sequence[float], scale: float) -> float:
    """The logarithm of how likely these run times are, if all have become longer by a factor."""
    near = 1.1
    return sum(
        math.log(former.over_at(took / scale * near) - former.over_at(took / scale / near) + 1e-6) for took in seconds
    )


def widths(logs: Sequence[float]) -> list[float]:
    """Half the width of each run's hump: the distance to its √n-th neighbour; `logs` sorted."""
    near = min(math.isqrt(len(logs) - 1) + 1, len(logs) - 1)
    found, first = [], 0
    for index, point in enumerate(logs):
        # the `near` nearest neighbours are a window of `near + 1` points around this one; it only moves to the right
        while first < index and first + near + 1 < len(logs) and logs[first + near + 1] - point < point - logs[first]:
            first += 1
        found.append(max(point - logs[first], logs[first + near] - point, NARROWEST))
    return found


def _smeared(logs: Sequence[float], worth: Sequence[float], grid: Sequence[float]) -> list[float]:
    """How many of the runs are over at each point of the grid, each counted by its worth."""
    partly = [0.0] * len(grid)
    wholly = [0.0] * (len(grid) + 1)
    for point, weight, half in zip(logs, worth, widths(logs), strict=True):
        reach = half * _KERNEL_REACH
        start, stop = bisect_left(grid, point - reach), bisect_right(grid, point + reach)
        for index in range(start, stop):
            partly[index] += weight * _kernel((grid[index] - point) / reach)
        wholly[stop] += weight
    over, done = [], 0.0
    for part, whole in zip(partly, wholly, strict=False):
        done += whole
        over.append(done + part)
    return over


_KERNEL_REACH = 1.3 * math.sqrt(5.0)  # a parabola √5 wide has a standard deviation of one; 1.3: tried, docs/polling.md


def _kernel(place: float) -> float:
    """The share of a hump that lies left of `place`, from -1 (none) to 1 (all): the integral of a parabola."""
    return 0.5 + 0.75 * place - 0.25 * place**3


def _prior(distance: float) -> float:
    """The share of the prior left of a point, `distance` from its middle in log time (log-logistic)."""
    return 1.0 / (1.0 + math.exp(-distance / PRIOR_SPREAD))


def _grid(logs: Sequence[float]) -> list[float]:
    """Points in log time, dense where runs end."""
    middle, reach = logs[len(logs) // 2], _REACH * PRIOR_SPREAD
    low, high = min(middle - reach, logs[0] - 1.0), max(middle + reach, logs[-1] + 1.0)
    points = {low + (high - low) * step / _FILL for step in range(_FILL + 1)}
    last = len(logs) - 1
    for step in range(_RANKS + 1):
        rank = last * step / _RANKS
        below = int(rank)
        above = min(below + 1, last)
        points.add(logs[below] + (logs[above] - logs[below]) * (rank - below))
    reaches = [half * _KERNEL_REACH for half in widths(logs)]
    for step in range(_AROUND + 1):
        index = last * step // _AROUND
        points.update(logs[index] + share * reaches[index] for share in (-1.0, -0.5, 0.5, 1.0))
    return sorted(points)


def between(known: Sequence[float], values: Sequence[float], at: float) -> float:
    """The value at a point between known ones; the first or last value outside of them."""
    right = bisect_right(known, at)
    if right == 0:
        return values[0]
    if right == len(known):
        return values[-1]
    left = right - 1
    share = (at - known[left]) / (known[right] - known[left])
    return values[left] + share * (values[right] - values[left])
