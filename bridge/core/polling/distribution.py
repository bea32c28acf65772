"""How long a crew's runs take, estimated from those already seen: the share of runs still under way, by age.

A run's end is seen by a poll, so all that is known is a span: it was in progress at the poll before. Where within
its span a run ended is estimated from all the others, and that from it, in turns; each turn starts from what the turn
before found and smooths it, and two turns are enough (expectation, maximisation, smoothing: Silverman et al., 1990).

Ages are measured on a ruler of the crew's own, from 0 to 1, on which its ends would be spread evenly if their
logarithms were distributed by a logistic law. On it a run is smeared as wide as it takes to hold a number of other runs
that grows with the root of all: narrow where runs crowd together, wide where they are sparse. At the ruler's ends what
is smeared is folded back, so that a late run does not pretend that others may be many times later. One wide prior,
worth a few runs, keeps every age possible: no crew is so regular that it can never be late.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

Span = tuple[float, float]
"""The ages in seconds between which a run ended; equal if that is known exactly."""

SHORTEST = 0.01  # seconds; ages are held above it, so that their logarithms stay sane
PRIOR_WORTH = 3.0  # runs
PRIOR_SPREAD = 0.8  # of the prior, in log time: a tenth of it is beyond 6 times the median, a hundredth beyond 40 times
NARROWEST = 0.01  # spread of the ruler in log time; runs that all take equally long would have none
_NEAR = 2.0  # times the root of the number of runs: as many are near a run
_REACHES = (1.15, 0.6)  # of each turn, to either side, in stretches that hold the runs near: wide first, for a start
_RESOLUTION = 0.005  # in log time: ages half a percent apart are the same
_MARKS = 48  # points of the grid evenly spread over the ruler,
_RANKS = 48  # over the ends of the spans,
_FILL = 48  # and over log time, for what was never seen
_SPANS_OF_PRIOR = 7.0  # on either side of the median that the grid covers
_ALMOST_ALL = 1.0 - 1e-9  # as many as ever count as over: some always go on, which rounding must not deny
_NARROWEST = 1e-4  # half of what a run is smeared over, on the ruler
_UNLIKELY = 1.0  # change by a factor of two: the logarithm of how many times likelier none is
_ODD = 0.02  # of all runs take any time, whatever the others do; so a single one does not stretch them all
_NOTHING = 1e-12


@dataclass(frozen=True, slots=True)
class Estimate:
    """The share of runs that are over at each of some ages; `ages` in seconds, from 0 on, all increasing.

    `seen`: the same without smoothing, for counting what a plan would have cost these very runs.
    """

    ages: list[float]
    over: list[float]
    seen: list[float]

    def over_at(self, age: float) -> float:
        """The share of runs that are over at this age."""
        return between(self.ages, self.over, age)

    def seen_over_at(self, age: float) -> float:
        """The share of the runs seen that were over at this age."""
        return between(self.ages, self.seen, age)


@dataclass(frozen=True, slots=True)
class _Ruler:
    """Marks from 0 to 1 for ages given as logarithms."""

    middle: float
    spread: float

    def mark(self, log: float) -> float:
        return _logistic((log - self.middle) / self.spread)

    def log(self, mark: float) -> float:
        return self.middle + self.spread * math.log(mark / (1.0 - mark))


def estimate(spans: Sequence[Span], weights: Sequence[float] | None = None) -> Estimate:
    """The estimate from the spans of at least one run; `weights` says how much each counts, 1 as a rule."""
    worth = list(weights or [1.0] * len(spans))
    logs = [(_log(earliest), _log(latest)) for earliest, latest in spans]
    ruler = _ruler(logs, worth)
    grid = _grid(logs, ruler)
    marks = [0.0, *(ruler.mark(point) for point in grid), 1.0]
    prior = [0.0, *(_logistic((point - ruler.middle) / PRIOR_SPREAD) for point in grid), 1.0]
    cells = [_cells(grid, span) for span in logs]
    total = sum(worth) + PRIOR_WORTH
    over = [(mark + before) / 2 for mark, before in zip(marks, prior, strict=True)]
    for reach in _REACHES:
        smooth = _smoothed(_masses(cells, worth, over), marks, reach)
        over = [(share + PRIOR_WORTH * before) / total for share, before in zip(smooth, prior, strict=True)]
    seen = list(accumulate(_masses(cells, worth, over), initial=0.0))
    ages = [0.0, *(math.exp(point) for point in grid)]
    return Estimate(ages, _shares(over, 1.0), _shares(seen, sum(worth)))


def likeliest_scale(former: Estimate, spans: Sequence[Span]) -> float:
    """The factor by which run times must have changed for those seen now to be likeliest."""
    return max((math.exp2(step / 8) for step in range(-40, 41)), key=lambda scale: _likelihood(former, spans, scale))


def _likelihood(former: Estimate, spans: Sequence[Span], scale: float) -> float:
    """The logarithm of how likely these spans are, if all have become longer by a factor; great ones are unlikelier."""
    near = 1.1
    return -_UNLIKELY * abs(math.log2(scale)) + sum(
        math.log(former.over_at(latest / scale * near) - former.over_at(earliest / scale / near) + _ODD)
        for earliest, latest in spans
    )


def _ruler(logs: Sequence[Span], worth: Sequence[float]) -> _Ruler:
    """The ruler that fits the middles of the spans: their median, their standard deviation."""
    middles = sorted(
        (_log((math.exp(low) + math.exp(high)) / 2), weight) for (low, high), weight in zip(logs, worth, strict=True)
    )
    total = sum(worth)
    halfway = bisect_left(list(accumulate(weight for _, weight in middles)), total / 2)
    mean = sum(point * weight for point, weight in middles) / total
    variance = sum((point - mean) ** 2 * weight for point, weight in middles) / total
    spread = math.sqrt(3.0 * variance) / math.pi  # a logistic law's standard deviation is pi / sqrt(3) spreads
    return _Ruler(middles[halfway][0], max(spread, NARROWEST))


def _grid(logs: Sequence[Span], ruler: _Ruler) -> list[float]:
    """Points in log time, dense where runs end."""
    ends = sorted(point for span in logs for point in span)
    reach = _SPANS_OF_PRIOR * PRIOR_SPREAD
    low, high = min(ruler.middle - reach, ends[0] - 1.0), max(ruler.middle + reach, ends[-1] + 1.0)
    ranked = [ends[(len(ends) - 1) * rank // _RANKS] for rank in range(_RANKS + 1)]
    points = [low + (high - low) * step / _FILL for step in range(_FILL + 1)]
    points += [ruler.log((step + 0.5) / _MARKS) for step in range(_MARKS)]
    points += [point + side for point in ranked for side in (-2 * _RESOLUTION, 0.0, 2 * _RESOLUTION)]
    return [number * _RESOLUTION for number in sorted({round(point / _RESOLUTION) for point in points})]


def _cells(grid: Sequence[float], span: Span) -> tuple[int, int]:
    """The cells of the grid, from the one up to before the other, in which a run may have ended; at least one."""
    first = bisect_right(grid, span[0] + _RESOLUTION / 2)
    return first, max(bisect_left(grid, span[1] - _RESOLUTION / 2) + 1, first + 1)


def _masses(cells: Sequence[tuple[int, int]], worth: Sequence[float], over: Sequence[float]) -> list[float]:
    """How many runs ended in each cell, each run spread over its own cells as the estimate has it."""
    per_share = [0.0] * len(over)
    for (first, last), weight in zip(cells, worth, strict=True):
        density = weight / max(over[last] - over[first], _NOTHING)
        per_share[first] += density
        per_share[last] -= density
    widths = (after - before for before, after in pairwise(over))
    return [max(share * width, 0.0) for share, width in zip(accumulate(per_share), widths, strict=False)]


def _smoothed(masses: Sequence[float], marks: Sequence[float], reach: float) -> list[float]:
    """How many runs are over at each mark, when those of each cell are spread evenly over as far as they reach.

    Each cell adds a ramp, which is a straight line between two marks; so the lines are added up, not their points.
    """
    slopes, heights = [0.0] * (len(marks) + 1), [0.0] * (len(marks) + 1)
    for cell, (mass, stretch) in enumerate(zip(masses, _stretches(masses, marks), strict=True)):
        half = min(max(stretch * reach, _NARROWEST), 1.0)
        middle, slope = (marks[cell] + marks[cell + 1]) / 2, mass / (2.0 * half)
        for folded in (middle, -middle, 2.0 - middle):
            left, right = max(folded - half, 0.0), folded + half
            if mass <= _NOTHING or right <= 0.0 or left >= 1.0:
                continue
            start, stop = bisect_left(marks, left), bisect_right(marks, right)
            slopes[start] += slope
            slopes[stop] -= slope
            heights[start] -= slope * left
            heights[stop] += slope * right
    lines = zip(accumulate(slopes), accumulate(heights), marks, strict=False)
    return [slope * mark + height for slope, height, mark in lines]


def _stretches(masses: Sequence[float], marks: Sequence[float]) -> list[float]:
    """How long the stretch is that holds the runs near each cell.

    It is the shortest that ends, begins or has its middle there: one that crosses a gap to other runs is longer.
    """
    done = list(accumulate(masses, initial=0.0))
    near = min(_NEAR * math.sqrt(done[-1]), done[-1])
    stretches = []
    for cell, mass in enumerate(masses):
        here = done[cell] + mass / 2
        starts = {min(max(here - share * near, 0.0), done[-1] - near) for share in (0.0, 0.5, 1.0)}
        stretches.append(min(between(done, marks, start + near) - between(done, marks, start) for start in starts))
    return stretches


def _shares(counts: Sequence[float], total: float) -> list[float]:
    """Shares of all, without the last point, which is at no age."""
    return [min(count / total, _ALMOST_ALL) for count in counts[:-1]]


def _log(seconds: float) -> float:
    return math.log(max(seconds, SHORTEST))


def _logistic(place: float) -> float:
    return 0.5 + 0.5 * math.tanh(place / 2)


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
