"""JSON of the crew API: an invalid value is dropped alone, and an unreadable body is reported as such."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.crew.api_json import MAX_CONTAINERS, read_beginning, read_json, read_webhook
from bridge.core.json import MAX_DEPTH, deeper_than
from tests.unit.test_json import JSON


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"", {}),
        (b"[[", {}),
        (b'{"state"', {}),
        (b'{"state": "SUCC', {}),
        (b' {"state" : "SUCCESS" , "status":null,"n": 12', {"state": "SUCCESS", "status": None}),
        (b'{"a": {"b": {"c": 1, "d": "x', {"a": {"b": {"c": 1}}}),
        (b'{"events": [{"id": "e-1"}, {"data": {"parent_event_id": null, "state": {"id": "k-1", "x": [',
         {"events": [{"id": "e-1"}, {"data": {"parent_event_id": None, "state": {"id": "k-1"}}}]}),
        (b'{"a": 1, b: 2', {"a": 1}),
        (b'{"a" 1, "b": 2}', {}),
        (b'{"a": 1} x', {"a": 1}),
        (b'{"a": "\xff\xc3', {}),
        (b'{"a": 1, "b":' + b"[" * 50_000, {"a": 1, "b": [[[[]]]]}),
    ],
)  # fmt: skip
def test_the_complete_members_of_incomplete_json_are_read(written: bytes, read: object):
    assert read_beginning(written) == read


@given(JSON, st.integers(0, 200))
def test_the_beginning_of_any_json_is_read(value: object, end: int):
    assert isinstance(read_beginning(json.dumps({"a": value}).encode()[:end]), dict)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"NaN", None),
        (b"-Infinity", None),
        (b"1e999", "1e999"),
        (b"12345678901234567.89", "12345678901234567.89"),
        (b"-0.1e-400", "-0.1e-400"),
        (b"0.10000000000000001", 0.1),
        (b"1" * 4001, "1" * 4001),
        (b"1" * 501, int("1" * 501)),
        (b'"\\ud800"', "\ud800"),
        (b'"\xff"', "\N{REPLACEMENT CHARACTER}"),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"\xef\xbb\xbf[]", []),
        ('["ä"]'.encode("utf-16"), ["ä"]),
    ],
)
def test_an_invalid_value_is_dropped_alone_and_no_number_is_rounded(written: bytes, read: object):
    assert read_json(written) == read


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1] 2", b"[" * 100_000 + b"]" * 100_000, b"[" + b"[]," * MAX_CONTAINERS + b"1]"]
)
def test_an_unreadable_status_raises_and_an_unreadable_webhook_is_none(body: bytes):
    with pytest.raises(ValueError, match=r"."):
        read_json(body)
    assert read_webhook(body) == (None, False)


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("content", [deep(MAX_DEPTH - 1), {"a": deep(MAX_DEPTH - 2)}, "text", None])
def test_a_webhook_within_the_nesting_limit_is_read_in_full(content: object):
    assert read_webhook(json.dumps(content).encode()) == (content, True)


@pytest.mark.parametrize(
    ("content", "read"),
    [
        (
            {"events": [{"execution_id": "e", "data": {"n": 1, "state": deep(90)}}]},
            {"events": [{"execution_id": "e", "data": None}]},
        ),
        ([{"execution_id": "e", "data": deep(90)}], [{"execution_id": "e", "data": [None]}]),
        (deep(90), [[[None]]]),
    ],
)
def test_a_webhook_loses_only_the_member_nested_too_deep(content: object, read: object):
    assert read_webhook(json.dumps(content).encode()) == (read, False)


@pytest.mark.parametrize("result", [deep(90), [{"a": 1}, deep(90)], {"a": 1, "b": deep(90)}])
def test_a_result_nested_too_deep_is_dropped_in_full(result: object):
    body = json.dumps({"kickoff_id": "k", "result": result}).encode()
    assert read_webhook(body, enveloped=False) == ({"kickoff_id": "k", "result": None}, False)


@pytest.mark.parametrize("levels", range(MAX_DEPTH - 3, MAX_DEPTH + 6))
def test_no_webhook_is_returned_nested_too_deep(levels: int):
    content, _ = read_webhook(json.dumps({"a": {"b": [{"c": deep(levels)}]}}).encode())
    assert not deeper_than(MAX_DEPTH, content)
