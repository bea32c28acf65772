"""Parse the `Retry-After` header."""

from email.utils import parsedate_to_datetime

from bridge.core.numbers import read_number

MAX_RETRY_AFTER = 86_400.0  # seconds


def parse_retry_after(header: str | None, date: str | None = None) -> float | None:
    """Return the seconds of a `Retry-After` (RFC 9110, 10.2.3); None if it is absent, invalid, or in the past.

    A date is compared with the `Date` of the same response, not with the local clock.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = read_number(text)
        return MAX_RETRY_AFTER if seconds is None else min(float(seconds), MAX_RETRY_AFTER)  # None: out of range
    then, sent = _http_date(text), _http_date(date or "")
    if then is None or sent is None or then <= sent:
        return None
    return min(then - sent, MAX_RETRY_AFTER)


def _http_date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
