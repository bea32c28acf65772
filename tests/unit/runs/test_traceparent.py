"""Trace contexts that are kept, from any protocol."""

import pytest

from bridge.core.runs.request import parse_traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


@pytest.mark.parametrize("trace", [f"00-{TRACE}-01", f"cc-{TRACE}-01", f"cc-{TRACE}-01-what-comes-later"])
def test_a_trace_is_read_from_text_and_bytes(trace: str):
    assert parse_traceparent(trace) == parse_traceparent(trace.encode()) == trace


@pytest.mark.parametrize(
    "trace",
    [
        None,
        7,
        "",
        b"\xff",
        f"ff-{TRACE}-01",
        f"00-{TRACE}-01-more",
        f"cc-{TRACE}-01-{'x' * 257}",
        f"00-{TRACE.upper()}-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        f"00-{TRACE}-01\n",
        f"cc-{TRACE}-01-no\udcffunicode",
    ],
)
def test_an_invalid_trace_is_dropped(trace: object):
    assert parse_traceparent(trace) is None
