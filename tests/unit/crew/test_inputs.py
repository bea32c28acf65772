"""Inputs of a crew: how the API lists them, and which of them a request lacks."""

import json
from typing import Any

import pytest

from bridge.core.crew.inputs import InputCache, ListedInputs, missing_inputs, read_inputs, required_inputs
from bridge.core.crew.reply import Reply
from tests.fakes import NOW


def listed(body: Any) -> ListedInputs | None:
    return read_inputs(Reply(200, json.dumps(body).encode()))


def required(body: Any, *, is_flow: bool = False) -> tuple[str, ...]:
    found = listed(body)
    assert found is not None
    return required_inputs(found, is_flow=is_flow)


def test_missing_inputs_are_listed_in_the_order_of_the_crew():
    assert missing_inputs(["topic", "audience", "tone"], {"audience": "all"}) == ["topic", "tone"]


def test_additional_inputs_are_allowed():
    assert missing_inputs(["topic"], {"topic": "peat", "colour": "brown"}) == []


@pytest.mark.parametrize("value", [None, "", 0, False, []])
def test_an_empty_value_is_not_missing(value: Any):
    assert missing_inputs(["topic"], {"topic": value}) == []


@pytest.mark.parametrize("name", ["topic", "_topic", "Topic2", "target-group", "x"])
def test_a_valid_name_is_required(name: str):
    assert required({"inputs": [name]}) == (name,)


@pytest.mark.parametrize("text", ["", '"approved": true', "a b", "2nd", "-x", "größe", "topic\n", "a.b", "a,b"])
def test_a_listed_input_that_cannot_be_a_name_is_not_required(text: str):
    """The API lists JSON samples of a prompt as inputs; requiring them would reject every request to the crew."""
    assert required({"inputs": [text, "topic"]}) == ("topic",)
    assert required({"inputs": [], "required_inputs": [text, "topic"]}, is_flow=True) == ("topic",)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": ["audience", "topic"]},
        {"inputs": {"audience": "string", "topic": "string"}},
        {"inputs": [{"name": "audience"}, {"name": "topic"}]},
        ["audience", "topic"],
    ],
)
def test_every_format_of_the_list_is_read(body: Any):
    assert listed(body) == ListedInputs(("audience", "topic"))


# Crew API contract, body 16; without `required_inputs`, a crew requires all inputs, and a flow none
@pytest.mark.parametrize(
    ("body", "of_crew", "of_flow"),
    [
        ({"inputs": ["a", "t"], "required_inputs": ["a", "t"]}, ("a", "t"), ("a", "t")),
        ({"inputs": ["topic", "tone"], "required_inputs": ["topic"]}, ("topic",), ("topic",)),
        ({"inputs": ["topic", "count"], "required_inputs": []}, (), ()),
        ({"inputs": ["topic", "count"]}, ("topic", "count"), ()),
        ({"inputs": ["topic"], "required_inputs": None}, ("topic",), ()),
        ({"inputs": ["topic"], "required_inputs": {"topic": "string"}}, ("topic",), ()),
        ({"inputs": ["topic"], "required_inputs": [7, {"name": "topic"}, None]}, ("topic",), ("topic",)),
        ({"inputs": [], "required_inputs": ["unlisted"]}, ("unlisted",), ("unlisted",)),
    ],
)
def test_only_inputs_listed_as_required_are_required(body: Any, of_crew: tuple[str, ...], of_flow: tuple[str, ...]):
    assert (required(body), required(body, is_flow=True)) == (of_crew, of_flow)


def test_an_empty_list_means_no_inputs():
    assert listed({"inputs": []}) == ListedInputs(())


@pytest.mark.parametrize("body", [b"", b"Healthy", b"7", b"null", b"{}", b'{"inputs": "topic"}'])
def test_an_unknown_format_is_none(body: bytes):
    assert read_inputs(Reply(200, body)) is None


def test_an_error_response_is_none():
    assert read_inputs(Reply(401, b'{"inputs": ["topic"]}')) is None


# The cache ----------------------------------------------------------------------------------------------------------


def test_an_answer_is_used_for_ten_minutes_and_a_failure_for_ten_seconds():
    cache = InputCache()
    assert not cache.is_current(NOW, after=0)
    cache.store(cache.begin(), ListedInputs(("topic",)), NOW)
    assert [cache.is_current(NOW + age, after=0) for age in (0, 600, 601)] == [True, True, False]
    cache.store(cache.begin(), None, NOW)
    assert [cache.is_current(NOW + age, after=0) for age in (0, 10, 11)] == [True, True, False]


def test_an_answer_to_an_earlier_question_is_not_used():
    cache = InputCache()
    cache.store(cache.begin(), ListedInputs(("topic",)), NOW)
    assert not cache.is_current(NOW, after=cache.asked)
    cache.store(cache.begin(), ListedInputs(("topic",)), NOW)
    assert cache.is_current(NOW, after=1)
    cache.store(cache.begin(), None, NOW)
    assert cache.is_current(NOW, after=cache.asked), "no caller waits longer for a crew that does not answer"


def test_forgetting_includes_the_answer_to_a_question_in_progress():
    cache = InputCache()
    number = cache.begin()
    cache.forget()
    cache.store(number, ListedInputs(("topic",)), NOW)
    assert not cache.is_current(NOW, cache.forgotten)
