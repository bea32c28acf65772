"""Parsing of kickoff requests: every field, every refusal, and the fingerprint."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.errors import RequestRefused
from bridge.core.runs.model import Envelope, KickoffRequest, State, TrackedRun
from bridge.core.runs.request import MAX_KEY, check_key, fingerprint, format_duration, parse, parse_duration, retry
from tests.fakes import NOW, a_request, a_run, run_id
from tests.unit.test_json import JSON, TEXT


def refusal(body: dict[str, Any], **beside: Any) -> tuple[str, str | None]:
    with pytest.raises(RequestRefused) as caught:
        parse(body, **beside)
    return caught.value.code, caught.value.field


def test_every_field_is_read():
    body = {
        "crew": "research",
        "inputs": {"topic": "peat", "pages": 3},
        "meta": {"order": 17},
        "callback_url": "https://shop.example/done",
        "deadline": "90m",
        "start_by": "2h",
        "priority": 9,
        "idempotency_key": "order-17",
    }
    assert parse(body) == KickoffRequest(
        "research",
        {"topic": "peat", "pages": 3},
        {"order": 17},
        "https://shop.example/done",
        5400.0,
        9,
        "order-17",
        start_by=7200.0,
    )


def test_omitted_fields_have_defaults():
    assert parse({"crew": "research"}) == KickoffRequest("research", {}, {}, None, None, 0, None)


@pytest.mark.parametrize(
    "name", ["inputs", "meta", "callback_url", "deadline", "start_by", "priority", "idempotency_key"]
)
def test_null_equals_an_omitted_field(name: str):
    assert parse({"crew": "research", name: None}) == parse({"crew": "research"})


def test_the_routing_key_names_the_crew_when_the_body_does_not():
    assert parse({}, crew="routed").crew == "routed"
    assert parse({"crew": "named"}, crew="routed").crew == "named"


def test_the_key_of_the_body_takes_precedence():
    assert parse({"crew": "c"}, idempotency_key="beside").idempotency_key == "beside"
    assert parse({"crew": "c", "idempotency_key": "own"}, idempotency_key="beside").idempotency_key == "own"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "crew"),
        ({"crew": ""}, "crew"),
        ({"crew": 7}, "crew"),
        ({"crew": ["research"]}, "crew"),
        ({"crew": "c", "inputs": []}, "inputs"),
        ({"crew": "c", "inputs": "topic"}, "inputs"),
        ({"crew": "c", "inputs": False}, "inputs"),
        ({"crew": "c", "meta": 1}, "meta"),
        ({"crew": "c", "callback_url": 1}, "callback_url"),
        ({"crew": "c", "start_by": "0s"}, "start_by"),
        ({"crew": "c", "start_by": 30}, "start_by"),
        ({"crew": "c", "deadline": 30}, "deadline"),
        ({"crew": "c", "deadline": True}, "deadline"),
        ({"crew": "c", "deadline": "soon"}, "deadline"),
        ({"crew": "c", "deadline": "0s"}, "deadline"),
        ({"crew": "c", "deadline": "-1s"}, "deadline"),
        ({"crew": "c", "deadline": "9" * 400 + "d"}, "deadline"),
        ({"crew": "c", "priority": -1}, "priority"),
        ({"crew": "c", "priority": 256}, "priority"),
        ({"crew": "c", "priority": 1.5}, "priority"),
        ({"crew": "c", "priority": True}, "priority"),
        ({"crew": "c", "priority": "1"}, "priority"),
        ({"crew": "c", "idempotency_key": 17}, "idempotency_key"),
        ({"crew": "c", "idempotency_key": "  "}, "idempotency_key"),
        ({"crew": "c", "idempotency_key": "a\nb"}, "idempotency_key"),
        ({"crew": "c", "idempotency_key": "k" * (MAX_KEY + 1)}, "idempotency_key"),
        ({"crew": "c", "idempotency_key": "é" * 128}, "idempotency_key"),
        ({"crew": "c", "input": {}}, "input"),
        ({"crew": "c", "webhooks": {}}, "webhooks"),
    ],
)
def test_an_invalid_field_is_named(body: dict[str, Any], field: str):
    assert refusal(body) == ("invalid_request", field)


def test_an_empty_key_is_refused():
    """If an empty key counted as none, a producer that expects protection would start a paid run with each repeat."""
    assert refusal({"crew": "c", "idempotency_key": ""}) == ("invalid_request", "idempotency_key")


def test_an_invalid_key_outside_the_body_is_refused():
    assert refusal({"crew": "c"}, idempotency_key="\x00") == ("invalid_request", "idempotency_key")


@pytest.mark.parametrize("key", [None, "k", "k" * MAX_KEY, "order 17", "é" * 127, "🦉"])
def test_a_valid_key_is_returned_unchanged(key: str | None):
    assert check_key(key) == key


@pytest.mark.parametrize("priority", [0, 255, 5.0])
def test_the_bounds_of_the_priority_range_are_valid(priority: int):
    assert parse({"crew": "c", "priority": priority}).priority == priority


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("1.5m", 90), ("5m", 300), ("1h", 3600), ("14d", 1_209_600), ("0s", 0)],
)
def test_durations(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "5", "5 s", "5S", ".5s", "5.s", "-5s", "+5s", "1e3s", "5s ", "1h30m", "٣s"])
def test_invalid_durations(text: str):
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    "change",
    [
        {"crew": "other"},
        {"inputs": {"topic": "moors"}},
        {"meta": {"a": 1}},
        {"callback_url": "https://a.example"},
        {"deadline": 5.0},
        {"start_by": 5.0},
        {"priority": 1},
    ],
)
def test_other_content_has_another_fingerprint(change: dict[str, Any]):
    assert fingerprint(a_request(**change)) != fingerprint(a_request())


def test_the_fingerprint_ignores_the_key_and_the_order():
    one = a_request(inputs={"a": 1, "b": {"c": 2, "d": 3}}, idempotency_key="one")
    two = a_request(inputs={"b": {"d": 3, "c": 2}, "a": 1}, idempotency_key="two")
    assert fingerprint(one) == fingerprint(two)
    assert len(fingerprint(one)) == 64


FIELDS = st.sampled_from(["crew", "inputs", "meta", "callback_url", "deadline", "priority", "idempotency_key", "x"])


@given(st.dictionaries(FIELDS, JSON | TEXT, max_size=5))
def test_any_object_gives_a_request_or_a_refusal_that_names_a_field_of_it(body: dict[str, Any]):
    try:
        assert parse(body).crew == body["crew"]
    except RequestRefused as refused:
        assert refused.field in body or refused.field == "crew"  # noqa: PT017 - both outcomes are fine


@pytest.mark.parametrize("text", ["500ms", "1ms", "30s", "90s", "5m", "25h", "14d"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert format_duration(parse_duration(text)) == text


def test_an_ended_run_is_retried_for_the_same_destinations():
    envelope = Envelope("queue", reply_to="replies")
    run = replace(a_run(envelope=envelope, idempotency_key="k-1"), state=State.FAILED, finished_at=NOW)
    request, sender = retry(run, "k-2", Envelope("client/operator"))
    assert request == replace(run.request, idempotency_key="k-2", retry_of=run.run_id)
    assert sender == Envelope("client/operator", reply_to="replies", correlation_id="k-1")


def test_a_run_that_has_not_ended_is_not_retried():
    with pytest.raises(RequestRefused) as caught:
        retry(a_run(), None, Envelope("client/operator"))
    assert caught.value.code == "run_not_ended"


def test_log_lines_name_the_key_and_the_trace_of_a_run_where_its_sender_gave_them():
    traced = Envelope("queue", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    assert a_run().log_fields == {"run_id": run_id(1), "crew": "research"}
    assert a_run(envelope=traced, idempotency_key="k-1").log_fields == {
        "run_id": run_id(1), "crew": "research", "idempotency_key": "k-1", "trace_id": "a" * 32,
    }  # fmt: skip
    assert TrackedRun(run_id(1), "research", "k-1", NOW, NOW).log_fields == {"run_id": run_id(1), "crew": "research"}
