"""Durations and sizes as people write them, read into seconds and bytes."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from bridge.core.request import parse_duration

MINUTE = 60.0  # seconds
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KIB = 1024  # bytes
MIB = 1024 * KIB

LONGEST = 3650 * DAY
"""A date that far away still fits every calendar and every column."""

_FACTORS = {"": 1, "B": 1, "KiB": KIB, "MiB": MIB, "GiB": 1024 * MIB}
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB|)")


def read_duration(value: Any) -> float:
    """Seconds of a duration with its unit; raises `ValueError` for anything else, a bare number too."""
    if not isinstance(value, str):
        raise ValueError("must be a duration with its unit, such as 500ms, 30s, 5m, 1h or 14d")  # noqa: TRY004  (pydantic reads ValueError)
    seconds = parse_duration(value)
    if not 0 < seconds <= LONGEST:
        raise ValueError("must be longer than nothing and at most 3650d")
    return seconds


def read_size(value: Any) -> int:
    """Bytes of a size such as `64KiB`, `8MiB` or `512`; raises `ValueError`."""
    match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value))
    size = 0 if match is None else int(match[1]) * _FACTORS[match[2]]
    if not size:
        raise ValueError("must be a size above zero, such as 64KiB, 8MiB or a number of bytes")
    return size


Seconds = Annotated[float, BeforeValidator(read_duration)]
Bytes = Annotated[int, BeforeValidator(read_size)]
