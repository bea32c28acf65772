"""Estimate the distribution of a crew's run times: the share of runs that have ended, by age.

The data is interval-censored: a run ended between two polls. Where within its span a run ended is estimated from all
other runs, iteratively; each iteration smooths the estimate of the previous one, and two are sufficient (expectation,
maximization, smoothing: Silverman et al., 1990).

Smoothing takes place on a scale from 0 to 1 that is specific to the crew: the distribution function of the log-logistic
distribution that fits its run times. The bandwidth of the kernel adapts: it covers a number of neighbors that grows
with the square root of the sample, so it is narrow where ends are dense and wide where they are sparse. Mass beyond the
ends of the scale is reflected, so that one late run does not suggest others that are many times later. A wide prior,
worth a few runs, keeps every age possible: even a regular crew can be late.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

Span = tuple[float, float]
"""The ages in seconds between which a run ended; equal if that is known exactly."""

MIN_AGE = 0.01  # seconds; ages are clamped to it before their logarithm is taken
PRIOR_WEIGHT = 3.0  # runs
PRIOR_SPREAD = 0.8  # of the prior, in log time: 10 % of it exceeds 6 times the median, 1 % exceeds 40 times
MIN_SPREAD = 0.01  # of the scale, in log time; runs that all take equally long would have none
_NEIGHBORS = 2.0  # times the square root of the number of runs: the runs that a kernel covers
_BANDWIDTHS = (1.15, 0.6)  # of each iteration, in widths that cover the neighbors; wide first
_RESOLUTION = 0.005  # in log time: ages half a percent apart are treated as equal
_SCALE_POINTS = 48  # of the grid, evenly distributed over the scale,
_QUANTILE_POINTS = 48  # over the ends of the spans,
_FILL_POINTS = 48  # and over log time, for ages without runs
_PRIOR_SPREADS = 7.0  # on either side of the median that the grid covers
_MAX_SHARE = 1.0 - 1e-9  # of ended runs; below 1, so that no division by the rest fails
_MIN_BANDWIDTH = 1e-4  # on the scale, to either side
_SCALE_PENALTY = 1.0  # log likelihood that a change by a factor of two must outweigh
_OUTLIERS = 0.02  # share of runs of arbitrary length, so that a single one does not rescale all
_EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class Estimate:
    """The share of runs that have ended by each age; `ages` in seconds, increasing from 0.

    `ended` is the smoothed estimate; `observed` is not smoothed, to count the polls that a plan would have cost.
    """

    ages: list[float]
    ended: list[float]
    observed: list[float]

    def ended_share_at(self, age: float) -> float:
        """Return the share of runs that have ended by an age."""
        return interpolate(self.ages, self.ended, age)

    def observed_share_at(self, age: float) -> float:
        """Return the share of the observed runs that had ended by an age."""
        return interpolate(self.ages, self.observed, age)

    def chance_ended(self, seen_age: float, age: float) -> float:
        """Return the probability that a run in progress at `seen_age` has ended by `age`."""
        before = self.ended_share_at(seen_age)
        return (self.ended_share_at(age) - before) / (1.0 - before)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Maps logarithms of ages to positions from 0 to 1, and back."""

    median: float
    spread: float

    def position(self, log_age: float) -> float:
        return _logistic((log_age - self.median) / self.spread)

    def log_age(self, position: float) -> float:
        return self.median + self.spread * math.log(position / (1.0 - position))


def estimate(spans: Sequence[Span], weights: Sequence[float] | None = None) -> Estimate:
    """Estimate the distribution from the spans of at least one run; `weights`: how much each counts, 1 by default."""
    counts = list(weights or [1.0] * len(spans))
    logs = [(_log(earliest), _log(latest)) for earliest, latest in spans]
    scale = _fit_scale(logs, counts)
    grid = _grid(logs, scale)
    positions = [0.0, *(scale.position(point) for point in grid), 1.0]
    prior = [0.0, *(_logistic((point - scale.median) / PRIOR_SPREAD) for point in grid), 1.0]
    cells = [_cells(grid, span) for span in logs]
    total = sum(counts) + PRIOR_WEIGHT
    ended = [(position + before) / 2 for position, before in zip(positions, prior, strict=True)]
    for bandwidth in _BANDWIDTHS:
        smoothed = _smoothed(_masses(cells, counts, ended), positions, bandwidth)
        ended = [(mass + PRIOR_WEIGHT * before) / total for mass, before in zip(smoothed, prior, strict=True)]
    observed = list(accumulate(_masses(cells, counts, ended), initial=0.0))
    ages = [0.0, *(math.exp(point) for point in grid)]
    return Estimate(ages, _shares(ended, 1.0), _shares(observed, sum(counts)))


def likeliest_scale(former: Estimate, spans: Sequence[Span]) -> float:
    """Return the most likely factor by which run times have changed, given the spans since the change."""
    factors = (math.exp2(step / 8) for step in range(-40, 41))
    return max(factors, key=lambda factor: _log_likelihood(former, spans, factor))


def _log_likelihood(former: Estimate, spans: Sequence[Span], factor: float) -> float:
    """Return the log likelihood of the spans if all run times changed by a factor; large factors are penalized."""
    margin = 1.1
    return -_SCALE_PENALTY * abs(math.log2(factor)) + sum(
        math.log(
            former.ended_share_at(latest / factor * margin)
            - former.ended_share_at(earliest / factor / margin)
            + _OUTLIERS
        )
        for earliest, latest in spans
    )


def _fit_scale(logs: Sequence[Span], counts: Sequence[float]) -> _Scale:
    """Fit the scale to the middles of the spans: to their median and standard deviation."""
    middles = sorted(
        (_log((math.exp(low) + math.exp(high)) / 2), weight) for (low, high), weight in zip(logs, counts, strict=True)
    )
    total = sum(counts)
    halfway = bisect_left(list(accumulate(weight for _, weight in middles)), total / 2)
    mean = sum(point * weight for point, weight in middles) / total
    variance = sum((point - mean) ** 2 * weight for point, weight in middles) / total
    spread = math.sqrt(3.0 * variance) / math.pi  # the spread is that of a logistic distribution
    return _Scale(middles[halfway][0], max(spread, MIN_SPREAD))


def _grid(logs: Sequence[Span], scale: _Scale) -> list[float]:
    """Return points in log time, dense where runs end."""
    ends = sorted(point for span in logs for point in span)
    margin = _PRIOR_SPREADS * PRIOR_SPREAD
    low, high = min(scale.median - margin, ends[0] - 1.0), max(scale.median + margin, ends[-1] + 1.0)
    quantiles = [ends[(len(ends) - 1) * rank // _QUANTILE_POINTS] for rank in range(_QUANTILE_POINTS + 1)]
    points = [low + (high - low) * step / _FILL_POINTS for step in range(_FILL_POINTS + 1)]
    points += [scale.log_age((step + 0.5) / _SCALE_POINTS) for step in range(_SCALE_POINTS)]
    points += [point + side for point in quantiles for side in (-2 * _RESOLUTION, 0.0, 2 * _RESOLUTION)]
    return [number * _RESOLUTION for number in sorted({round(point / _RESOLUTION) for point in points})]


def _cells(grid: Sequence[float], span: Span) -> tuple[int, int]:
    """Return the range of grid cells in which a run may have ended, at least one; the second index is exclusive."""
    first = bisect_right(grid, span[0] + _RESOLUTION / 2)
    return first, max(bisect_left(grid, span[1] - _RESOLUTION / 2) + 1, first + 1)


def _masses(cells: Sequence[tuple[int, int]], counts: Sequence[float], ended: Sequence[float]) -> list[float]:
    """Return how many runs ended in each cell, with each run distributed over its cells by the current estimate."""
    per_share = [0.0] * len(ended)
    for (first, last), weight in zip(cells, counts, strict=True):
        density = weight / max(ended[last] - ended[first], _EPSILON)
        per_share[first] += density
        per_share[last] -= density
    widths = (after - before for before, after in pairwise(ended))
    return [max(share * width, 0.0) for share, width in zip(accumulate(per_share), widths, strict=False)]


def _smoothed(masses: Sequence[float], positions: Sequence[float], bandwidth: float) -> list[float]:
    """Return how many runs have ended by each position, with each cell smoothed by a uniform kernel.

    The cumulative mass of a cell is a ramp, a straight line between two positions; so coefficients are summed, not
    points.
    """
    slopes, heights = [0.0] * (len(positions) + 1), [0.0] * (len(positions) + 1)
    for cell, (mass, width) in enumerate(zip(masses, _neighbor_widths(masses, positions), strict=True)):
        half = min(max(width * bandwidth, _MIN_BANDWIDTH), 1.0)
        middle, slope = (positions[cell] + positions[cell + 1]) / 2, mass / (2.0 * half)
        for reflected in (middle, -middle, 2.0 - middle):
            left, right = max(reflected - half, 0.0), reflected + half
            if mass <= _EPSILON or right <= 0.0 or left >= 1.0:
                continue
            start, stop = bisect_left(positions, left), bisect_right(positions, right)
            slopes[start] += slope
            slopes[stop] -= slope
            heights[start] -= slope * left
            heights[stop] += slope * right
    lines = zip(accumulate(slopes), accumulate(heights), positions, strict=False)
    return [slope * position + height for slope, height, position in lines]


def _neighbor_widths(masses: Sequence[float], positions: Sequence[float]) -> list[float]:
    """Return, for each cell, the width of the interval that contains its neighbors.

    The shortest interval that begins, ends, or is centered at the cell is used, because one across a gap would be
    wider.
    """
    cumulative = list(accumulate(masses, initial=0.0))
    neighbors = min(_NEIGHBORS * math.sqrt(cumulative[-1]), cumulative[-1])
    widths = []
    for cell, mass in enumerate(masses):
        center = cumulative[cell] + mass / 2
        starts = {min(max(center - part * neighbors, 0.0), cumulative[-1] - neighbors) for part in (0.0, 0.5, 1.0)}
        widths.append(
            min(
                interpolate(cumulative, positions, start + neighbors) - interpolate(cumulative, positions, start)
                for start in starts
            )
        )
    return widths


def _shares(counts: Sequence[float], total: float) -> list[float]:
    """Return counts as shares of the total, without the last point, which is at infinity."""
    return [min(count / total, _MAX_SHARE) for count in counts[:-1]]


def _log(seconds: float) -> float:
    return math.log(max(seconds, MIN_AGE))


def _logistic(x: float) -> float:
    return 0.5 + 0.5 * math.tanh(x / 2)


def interpolate(xs: Sequence[float], values: Sequence[float], x: float) -> float:
    """Interpolate linearly; outside of `xs`, return the first or last value."""
    right = bisect_right(xs, x)
    if right == 0:
        return values[0]
    if right == len(xs):
        return values[-1]
    left = right - 1
    fraction = (x - xs[left]) / (xs[right] - xs[left])
    return values[left] + fraction * (values[right] - values[left])
