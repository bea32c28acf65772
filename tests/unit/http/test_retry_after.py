"""The Retry-After header: seconds or a date, at most a day."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.core.http import retry_after

SENT = "Tue, 24 Nov 2026 08:00:00 GMT"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("86401", 86_400.0),
        ("9" * 400, 86_400.0),
        ("0000000000030", 30.0),
        ("-1", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("٣", None),
        ("", None),
        ("soon", None),
        ("Tue, 24 Nov 2026 08:01:30 GMT", 90.0),
        ("Tue, 24 Nov 2026 08:00:00 GMT", None),
        ("Tue, 24 Nov 2026 07:59:00 GMT", None),
        ("Thu, 26 Nov 2026 08:00:00 GMT", 86_400.0),
        ("Tue, 99 Nov 2026 08:01:30 GMT", None),
        ("Tue, 24 Nov 99999999999999999999 08:01:30 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None):
    assert retry_after.parse_retry_after(header, SENT) == seconds


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_date_is_ignored_without_the_date_of_the_response(date: str | None):
    assert retry_after.parse_retry_after("Tue, 24 Nov 2026 08:01:30 GMT", date) is None


@given(st.text(max_size=30) | st.text("0123456789:,-+ GMTueNov", max_size=34), st.none() | st.text(max_size=30))
@example("Mon, 01 Jan 0001 00:00:00 -0000", "Mon, 01 Jan 0001 00:00:00 -0000")
@example("Fri, 31 Dec 9999 23:59:59 -2359", SENT)
def test_any_header_gives_seconds_up_to_a_day_or_nothing(header: str, date: str | None):
    after = retry_after.parse_retry_after(header, date or SENT)
    assert after is None or (math.isfinite(after) and 0 <= after <= 86_400)
