"""Numbers from outside: a finite float, an integer within 64 bits, or none.

Python's own conversions raise for what JSON, headers and query strings can spell: an integer of 400 digits has no
float, one of 5,000 digits cannot even be read from text, and NaN compares with nothing.
"""

import math
import re
from typing import Any

LEAST, MOST = -(2**63), 2**63 - 1
MAX_DIGITS = 4000  # of an integer that is passed on as it is; Python reads and writes 4,300
_LONGEST = 40  # characters of a number as text
_TEXT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)


def read_number(value: Any) -> int | float | None:
    """Return a number of JSON, or one written as text; None for everything else, also for a boolean."""
    if isinstance(value, str):
        return _from_text(value.strip())
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if LEAST <= value <= MOST else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def _from_text(text: str) -> int | float | None:
    if len(text) > _LONGEST or not _TEXT.fullmatch(text):
        return None
    return read_number(int(text) if text.lstrip("+-").isdigit() else float(text))


def json_float(digits: str) -> float | None:
    """Return a float as JSON spells it; None for one that is too large."""
    number = float(digits)
    return number if math.isfinite(number) else None


def json_int(digits: str) -> int | None:
    """Return an integer of JSON that is passed on as it is; None for one that Python could not write again."""
    return int(digits) if len(digits) <= MAX_DIGITS else None
