"""Draws one horizontal bar per contender, as SVG."""

from collections.abc import Mapping

from bench.svg import opening

WIDTH, BAR, GAP, LEFT, RIGHT = 720, 22, 10, 150, 190


def draw_bars(title: str, bars: Mapping[str, tuple[float, str]]) -> str:
    """Return the chart; each bar has a length and a label."""
    height = 40 + len(bars) * (BAR + GAP)
    longest = max(length for length, _ in bars.values())
    parts = [
        opening(WIDTH, height, font_size=13),
        f'<text x="{LEFT}" y="20" font-weight="bold">{title}</text>',
    ]
    for number, (name, (length, note)) in enumerate(bars.items()):
        top, wide = 34 + number * (BAR + GAP), (WIDTH - LEFT - RIGHT) * length / longest
        middle = top + BAR * 0.7
        parts += [
            f'<text x="{LEFT - 8}" y="{middle:.1f}" text-anchor="end">{name}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{wide:.1f}" height="{BAR}" class="{"other" if number else "own"}"/>',
            f'<text x="{LEFT + wide + 6:.1f}" y="{middle:.1f}">{note}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
