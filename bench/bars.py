"""Draws one horizontal bar per contender, as SVG."""

from collections.abc import Mapping

WIDTH, BAR, GAP, LEFT, RIGHT = 720, 22, 10, 150, 190


def draw_bars(title: str, bars: Mapping[str, tuple[float, str]]) -> str:
    """The whole picture; each bar is a length and what is written behind it."""
    height = 40 + len(bars) * (BAR + GAP)
    longest = max(length for length, _ in bars.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-weight="bold">{title}</text>',
    ]
    for number, (name, (length, note)) in enumerate(bars.items()):
        top, wide = 34 + number * (BAR + GAP), (WIDTH - LEFT - RIGHT) * length / longest
        middle = top + BAR * 0.7
        parts += [
            f'<text x="{LEFT - 8}" y="{middle:.1f}" text-anchor="end">{name}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{wide:.1f}" height="{BAR}" fill="{"#39c" if not number else "#999"}"/>',
            f'<text x="{LEFT + wide + 6:.1f}" y="{middle:.1f}">{note}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
