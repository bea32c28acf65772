"""The inputs that a crew's API lists, in every shape that is known."""

import json
from typing import Any

import pytest

from bridge.core.crew.reply import Reply
from bridge.core.crew.responses import read_inputs


@pytest.mark.parametrize(
    "listed",
    [["audience", "topic"], {"audience": "string", "topic": "string"}, [{"name": "audience"}, {"name": "topic"}]],
)
def test_three_shapes_are_known(listed: Any):
    assert read_inputs(Reply(200, json.dumps({"inputs": listed}).encode())) == ("audience", "topic")


def test_a_crew_without_inputs_takes_none():
    assert read_inputs(Reply(200, b'{"inputs": []}')) == ()


@pytest.mark.parametrize("body", [b"", b"Healthy", b"[]", b"{}", b'{"inputs": "topic"}'])
def test_anything_else_tells_nothing(body: bytes):
    assert read_inputs(Reply(200, body)) is None


def test_an_error_tells_nothing():
    assert read_inputs(Reply(401, b'{"inputs": ["topic"]}')) is None
