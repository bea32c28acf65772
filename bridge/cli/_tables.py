"""Tables that fit the terminal: columns are dropped by importance, long cells cut, ids and times shortened."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

Json = dict[str, Any]

STYLES = {
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "in_doubt": "yellow",
    "running": "cyan",
    "delivered": "green",
    "dead": "red",
}

_GAP = 2  # spaces between columns
_ID_LENGTHS = (13, 18)  # of a UUIDv7 cut to its milliseconds, and to its first random bits
_UNITS = (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48), ("d", 86400, float("inf")))
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `members`: paths such as `error.code`, of which the first one that is not null is shown. `rank`: if the terminal is
    too narrow, columns with a higher one are dropped first. `shorten` shortens the cells of a column at the given time.
    `least`: the width to which cells may be cut; None: they are never cut.
    """

    title: str
    rank: int
    members: tuple[str, ...]
    shorten: Callable[[Sequence[str], float], Iterable[str]] | None = None
    least: int | None = None


def table(columns: Sequence[Column], items: Sequence[Json], width: int | None, now: float) -> RenderableType:
    """Return a table of at most this width; None: every column, without shortening anything."""
    cells = {column: [as_line(_member(item, column.members)) for item in items] for column in columns}
    if width is None:
        widths = {column: _widest(column, of_column) for column, of_column in cells.items()}
    else:
        cells = {
            column: list(column.shorten(of_column, now)) if column.shorten else of_column
            for column, of_column in cells.items()
            if any(of_column)
        }
        widths = _fitted(cells, width)
    shown = Table(box=None, header_style="bold", padding=(0, _GAP, 0, 0), pad_edge=False)
    for column, column_width in widths.items():
        shown.add_column(column.title, width=column_width, no_wrap=True, overflow="ellipsis")
    for row in zip(*(cells[column] for column in widths), strict=True):
        shown.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in row))
    return shown


def print_table(name: str, columns: Sequence[Column], items: Sequence[Json], *, wide: bool) -> None:
    """Print a table that fits the terminal. With `wide`, or if standard output is no terminal, print all of it.

    Without items, say so on standard error.
    """
    if not items:
        print(f"no {name}", file=sys.stderr)
        return
    out = console(wide=wide)
    out.print(table(columns, items, None if wide or not out.is_terminal else out.width, time.time()))


def console(*, wide: bool = False) -> Console:
    """Return a console that breaks no lines. Rich would cut a table to the width of the terminal unless `wide`."""
    out = Console(soft_wrap=True, highlight=False)
    return Console(soft_wrap=True, highlight=False, width=10_000) if wide or not out.is_terminal else out


def short_ids(ids: Sequence[str], _: float) -> Iterable[str]:
    """Cut ids to prefixes of one length that are unique among them."""
    length = next((length for length in _ID_LENGTHS if len({id_[:length] for id_ in ids}) == len(set(ids))), None)
    return (id_[:length] for id_ in ids)


def relative_times(times: Sequence[str], now: float) -> Iterable[str]:
    """Replace times by how long ago they were, or by how soon they come."""
    return (relative_time(time_, now) for time_ in times)


def relative_time(text: str, now: float) -> str:
    """Return `3 min ago` or `in 2 h`; text that is no time is returned unchanged."""
    try:
        seconds = now - datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return text
    name, unit = next((name, unit) for name, unit, limit in _UNITS if abs(seconds) < limit * unit)
    span = f"{abs(seconds) // unit:.0f} {name}"
    return f"{span} ago" if seconds >= 0 else f"in {span}"


def as_text(value: Any) -> str:
    """Return text as it is, except that control characters are escaped; null as nothing; other values as JSON."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    return text.translate(_CONTROL)


def as_line(value: Any) -> str:
    """Return `as_text` in one line."""
    return " ".join(as_text(value).split())


def _member(item: Json, paths: Sequence[str]) -> Any:
    """Return the first value that is not null."""
    for path in paths:
        value: Any = item
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def _widest(column: Column, cells: Sequence[str]) -> int:
    return max(map(cell_len, (column.title, *cells)))


def _fitted(cells: Mapping[Column, Sequence[str]], width: int) -> dict[Column, int]:
    """Return the columns that fit, in their order, with their widths; the most important one always fits."""
    natural = {column: _widest(column, of_column) for column, of_column in cells.items()}
    widths: dict[Column, int] = {}
    left = width + _GAP
    for column in sorted(cells, key=lambda column: column.rank):
        least = natural[column] if column.least is None else min(natural[column], column.least)
        if widths and least + _GAP > left:
            break
        widths[column] = least
        left -= least + _GAP
    for column in list(widths):  # the rest goes to cells that are cut
        more = max(0, min(left, natural[column] - widths[column]))
        widths[column] += more
        left -= more
    return {column: widths[column] for column in cells if column in widths}
