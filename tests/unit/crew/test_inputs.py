"""What a crew needs and a request lacks, as far as that can be told at the door."""

from typing import Any

import pytest

from bridge.core.crew.inputs import missing


def test_what_is_missing_is_named_in_the_crews_order():
    assert missing(["topic", "audience", "tone"], {"audience": "all"}) == ["topic", "tone"]


def test_nothing_is_missing_where_more_is_given_than_needed():
    assert missing(["topic"], {"topic": "peat", "colour": "brown"}) == []


@pytest.mark.parametrize("value", [None, "", 0, False, []])
def test_an_empty_value_is_given_nonetheless(value: Any):
    assert missing(["topic"], {"topic": value}) == []


@pytest.mark.parametrize("name", ["topic", "_topic", "Topic2", "target-group", "x"])
def test_what_can_be_a_name_is_needed(name: str):
    assert missing([name], {}) == [name]


@pytest.mark.parametrize("text", ["", '"approved": true', "a b", "2nd", "-x", "größe", "topic\n", "a.b", "a,b"])
def test_what_cannot_be_a_name_is_left_for_the_api_to_judge(text: str):
    """A sample of JSON in a prompt is listed as an input; refusing for it would shut the crew for good."""
    assert missing([text, "topic"], {}) == ["topic"]
