"""Convert untrusted numbers: to a finite float, an integer within 64 bits, or None.

Python's conversions raise for values that JSON, headers, and query strings can contain: an integer of 400 digits has no
float, and one of 5,000 digits cannot be parsed at all.
"""

import math
import re
from decimal import Decimal, InvalidOperation
from typing import Any

MIN_INT64, MAX_INT64 = -(2**63), 2**63 - 1
MAX_DIGITS = 4000  # of an integer that is kept as written; Python's limit is 4,300
_MAX_TEXT = 40  # characters of a number as text
_EXACT_TEXT = 16  # characters with a decimal point: up to 15 digits, which every normal float keeps
_MIN_NORMAL = 1e-300
_TEXT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)


def read_number(value: Any) -> int | float | None:
    """Return a JSON number, or one written as text; None for anything else, including booleans."""
    if isinstance(value, str):
        return _from_text(value.strip())
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if MIN_INT64 <= value <= MAX_INT64 else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def _from_text(text: str) -> int | float | None:
    if len(text) > _MAX_TEXT or not _TEXT.fullmatch(text):
        return None
    return read_number(int(text) if text.lstrip("+-").isdigit() else float(text))


def json_float(digits: str) -> float | None:
    """Parse a JSON float; None if it is out of range."""
    number = float(digits)
    return number if math.isfinite(number) else None


def keeps_digits(number: float, digits: str) -> bool:
    """Return whether a float is what the digits say: one of the two forms in which languages print a double.

    Those are the shortest form that is unambiguous, and the one of 17 digits that C and older languages print.
    """
    if (len(digits) <= _EXACT_TEXT and abs(number) > _MIN_NORMAL) or not digits.strip("-0."):
        return True
    if digits == repr(number):
        return True
    try:
        written = Decimal(digits)
    except InvalidOperation:  # an exponent with too many digits
        return False
    return written in (Decimal(repr(number)), Decimal(f"{number:.17g}"))


def json_int(digits: str) -> int | None:
    """Parse a JSON integer of any size up to `MAX_DIGITS`; None beyond, because Python could not format it again."""
    return int(digits) if len(digits) <= MAX_DIGITS else None
