"""Parsing of request headers."""

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from bridge.adapters.http import headers as request_headers
from bridge.adapters.http.problems import Problem

TRACE = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"


def headers(name: str, *values: str) -> request_headers.Headers:
    return CIMultiDictProxy(CIMultiDict([(name, value) for value in values]))


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        ('"a\\"b\\\\c"', 'a"b\\c'),
        ('a"b', 'a"b'),
        ('""', ""),
        ("", ""),
    ],
)
def test_a_key_is_the_same_with_and_without_quotes(written: str, key: str) -> None:
    assert request_headers.idempotency_key(headers("idempotency-key", written)) == key


def test_no_key() -> None:
    assert request_headers.idempotency_key(headers("x")) is None


@pytest.mark.parametrize("written", ['"', '"abc', '"a"b"', '"a\\b"', '"abc";x=1'])
def test_unbalanced_quotes(written: str) -> None:
    with pytest.raises(Problem):
        request_headers.idempotency_key(headers("idempotency-key", written))


@pytest.mark.parametrize(
    ("preferences", "seconds"),
    [
        ([], 0.0),
        (["wait=30"], 30.0),
        (['WAIT = "7"'], 7.0),
        (["return=minimal, wait=5; foo=bar"], 5.0),
        (["respond-async", "wait=9"], 9.0),
        (["wait=5, wait=9"], 5.0),
        (["wait=61"], 60.0),
        (["wait=999999999999"], 0.0),
        (["wait=1.5"], 0.0),
        (["await=5"], 0.0),
        (['wait="5'], 0.0),
    ],
)
def test_the_preferred_wait(preferences: list[str], seconds: float) -> None:
    assert request_headers.preferred_wait(headers("prefer", *preferences)) == seconds


@pytest.mark.parametrize("trace", [f"00-{TRACE}-01", f"cc-{TRACE}-01", f"cc-{TRACE}-01-what-comes-later"])
def test_a_trace_is_kept(trace: str) -> None:
    assert request_headers.traceparent(headers("traceparent", trace)) == trace


@pytest.mark.parametrize(
    "trace",
    [
        "",
        f"ff-{TRACE}-01",
        f"00-{TRACE}-01-more",
        f"00-{TRACE.upper()}-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        f"00-{TRACE}-01\n",
        f"cc-{TRACE}-01-no\udcffunicode",
    ],
)
def test_an_invalid_trace_is_dropped(trace: str) -> None:
    assert request_headers.traceparent(headers("traceparent", trace)) is None
