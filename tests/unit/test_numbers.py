"""Untrusted numbers: each becomes a number that every later step can process, or none."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.numbers import MAX_INT64, MIN_INT64, read_number

NO_NUMBERS: list[Any] = [
    None, True, False, "", " ", "NaN", "Infinity", "-inf", "1_000", "0x10", "١٢", "1e", "--1", "1.", [], {}, b"1", 1j,
    math.nan, math.inf, -math.inf, 2**63, -(2**63) - 1, 10**400, 10**5000, "9" * 400, "9" * 5000, "1e400", str(2**63),
]  # fmt: skip


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_an_invalid_or_too_large_number_is_none(value: Any) -> None:
    assert read_number(value) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [(0, 0), (-5, -5), (MAX_INT64, MAX_INT64), (MIN_INT64, MIN_INT64),
     (0.1, 0.1), (1e308, 1e308), (" 7 ", 7), ("-7", -7), ("+7", 7),
     ("1.5", 1.5), ("1e3", 1000.0), (str(MAX_INT64), MAX_INT64)],
)  # fmt: skip
def test_a_valid_number_is_unchanged(value: Any, number: float) -> None:
    found = read_number(value)
    assert (found, type(found)) == (number, type(number))


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.integers())))
def test_nothing_raises_and_every_number_fits(value: Any) -> None:
    found = read_number(value)
    if found is not None:
        assert math.isfinite(float(found))
        assert isinstance(found, float) or MIN_INT64 <= found <= MAX_INT64
