"""Inputs of a crew: how the API lists them, and which of them a request lacks."""

import json
from typing import Any

import pytest

from bridge.core.crew.reply import Reply
from bridge.core.crew.responses import read_inputs
from bridge.core.runs.request import missing_inputs


def test_missing_inputs_are_listed_in_the_order_of_the_crew():
    assert missing_inputs(["topic", "audience", "tone"], {"audience": "all"}) == ["topic", "tone"]


def test_additional_inputs_are_allowed():
    assert missing_inputs(["topic"], {"topic": "peat", "colour": "brown"}) == []


@pytest.mark.parametrize("value", [None, "", 0, False, []])
def test_an_empty_value_is_not_missing(value: Any):
    assert missing_inputs(["topic"], {"topic": value}) == []


@pytest.mark.parametrize("name", ["topic", "_topic", "Topic2", "target-group", "x"])
def test_a_valid_name_is_required(name: str):
    assert missing_inputs([name], {}) == [name]


@pytest.mark.parametrize("text", ["", '"approved": true', "a b", "2nd", "-x", "größe", "topic\n", "a.b", "a,b"])
def test_a_listed_input_that_cannot_be_a_name_is_not_required(text: str):
    """The API lists JSON samples of a prompt as inputs; requiring them would reject every request to the crew."""
    assert missing_inputs([text, "topic"], {}) == ["topic"]


@pytest.mark.parametrize(
    "listed",
    [["audience", "topic"], {"audience": "string", "topic": "string"}, [{"name": "audience"}, {"name": "topic"}]],
)
def test_three_formats_of_the_list_are_read(listed: Any):
    assert read_inputs(Reply(200, json.dumps({"inputs": listed}).encode())) == ("audience", "topic")


def test_an_empty_list_means_no_inputs():
    assert read_inputs(Reply(200, b'{"inputs": []}')) == ()


@pytest.mark.parametrize("body", [b"", b"Healthy", b"[]", b"{}", b'{"inputs": "topic"}'])
def test_an_unknown_format_is_none(body: bytes):
    assert read_inputs(Reply(200, body)) is None


def test_an_error_response_is_none():
    assert read_inputs(Reply(401, b'{"inputs": ["topic"]}')) is None
