"""Draws small charts of mean lag over polls per run, one for each crew, as SVG; both axes are logarithmic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.svg import opening

WIDTH, HEIGHT, MARGIN = 300, 220, 44
COLUMNS = 3
LEGEND = 30
CURVES = ("gray", "red", "blue", "ink", "green")  # classes of `bench.svg`
POLLS = (2.0, 12.0)
TICKS = (2, 3, 5, 7, 10)


@dataclass(frozen=True, slots=True)
class Curve:
    """A name, and points of polls per run and mean lag in seconds."""

    name: str
    points: Sequence[tuple[float, float]]


def draw_fronts(charts: Mapping[str, Sequence[Curve]]) -> str:
    """The whole picture."""
    rows = math.ceil(len(charts) / COLUMNS)
    width, height = COLUMNS * WIDTH, rows * HEIGHT + LEGEND
    parts = [opening(width, height, font_size=11)]
    for number, (crew, curves) in enumerate(charts.items()):
        left, top = (number % COLUMNS) * WIDTH, (number // COLUMNS) * HEIGHT
        parts.append(f'<g transform="translate({left} {top})">{_chart(crew, curves)}</g>')
    names = [curve.name for curve in next(iter(charts.values()))]
    parts.append(f'<g transform="translate({MARGIN} {height - 12})">{_legend(names)}</g></svg>')
    return "\n".join(parts) + "\n"


def _chart(title: str, curves: Sequence[Curve]) -> str:
    lags = [lag for curve in curves for _, lag in curve.points]
    low, high = min(lags) / 1.2, max(lags) * 1.2

    def at(polls: float, lag: float) -> tuple[float, float]:
        return (
            MARGIN + (WIDTH - MARGIN - 10) * _between(POLLS, polls),
            HEIGHT - MARGIN - (HEIGHT - MARGIN - 24) * _between((low, high), lag),
        )

    (left, bottom), (right, top) = at(POLLS[0], low), at(POLLS[1], high)
    parts = [
        f'<text x="{left}" y="16" font-weight="bold">{title}</text>',
        f'<path d="M{left} {top}V{bottom}H{right}" class="axis"/>',
        f'<text x="{(left + right) / 2}" y="{bottom + 30}" text-anchor="middle">polls per run</text>',
        f'<text transform="translate(12 {(top + bottom) / 2}) rotate(-90)" text-anchor="middle">mean lag, s</text>',
    ]
    for polls in TICKS:
        x, _ = at(polls, low)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{polls}</text>')
    for lag in (one * ten for ten in (0.1, 1, 10, 100) for one in (1, 2, 5)):
        if low <= lag <= high:
            _, y = at(POLLS[0], lag)
            parts.append(f'<path d="M{left} {y:.1f}H{right}" class="grid"/>')
            parts.append(f'<text x="{left - 4}" y="{y + 4:.1f}" text-anchor="end">{lag:g}</text>')
    for curve, style in zip(curves, CURVES, strict=True):
        points = " ".join("{:.1f},{:.1f}".format(*at(*point)) for point in curve.points)
        parts.append(f'<polyline points="{points}" class="curve {style}"/>')
    return "".join(parts)


def _legend(names: Sequence[str]) -> str:
    parts, left = [], 0
    for name, style in zip(names, CURVES, strict=True):
        parts.append(f'<path d="M{left} -4h18" class="curve {style}"/><text x="{left + 24}">{name}</text>')
        left += 60 + 6 * len(name)
    return "".join(parts)


def _between(ends: tuple[float, float], value: float) -> float:
    return math.log(value / ends[0]) / math.log(ends[1] / ends[0])
