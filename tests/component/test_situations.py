"""Requests to stage a situation are read strictly; a refusal names the field."""

import json
from typing import Any

import pytest

from bridge.core.errors import RequestRefused
from bridge.local.situations import SITUATIONS, TAG, read


def body_for(**members: Any) -> dict[str, Any]:
    return read(json.dumps(members).encode(), ["research", "triage"], ["topic", "tone"])[1]


def test_missing_inputs_are_filled_in_and_given_ones_are_kept() -> None:
    body = body_for(situation="waiting_for_human", inputs={"topic": "tides"}, meta={"order": 1}, callback_url=None)
    tag = body["inputs"].pop(TAG)
    assert tag
    assert body == {
        "crew": "research",
        "inputs": {"topic": "tides", "tone": "staged: waiting_for_human", "sandbox_human_questions": 1},
        "meta": {"order": 1},
    }


def test_each_staged_run_has_its_own_tag() -> None:
    tags = {body_for(situation=name, crew="triage")["inputs"][TAG] for name in SITUATIONS}
    assert len(tags) == len(SITUATIONS)


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({}, "situation"),
        ({"situation": None}, "situation"),
        ({"situation": "lost"}, "situation"),
        ({"situation": ["in_doubt"]}, "situation"),
        ({"situation": "in_doubt", "inputs": ["tides"]}, "inputs"),
        ({"situation": "in_doubt", "input": {"topic": "tides"}}, "input"),
        ({"situation": "in_doubt", "deadline": "1s"}, "deadline"),
        ({"situation": "late_result", "inputs": {"sandbox_seconds": 1}}, "inputs.sandbox_seconds"),
    ],
)
def test_a_refusal_names_the_field(members: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        body_for(**members)
    assert refused.value.field == field


@pytest.mark.parametrize("raw", [b"", b"[]", b"situation=in_doubt", b'{"situation": "in_doubt", "situation": "x"}'])
def test_a_body_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestRefused):
        read(raw, ["research"], [])
