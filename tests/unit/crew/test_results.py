"""Results of executions, in every format of the API, its documentation, and other clients."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

import orjson
import pytest

from bridge.core.crew.reply import Reply
from bridge.core.crew.responses import Succeeded, read_crew_webhook, read_status
from bridge.sandbox.dialects import Dialect, status_response
from bridge.sandbox.execution import Execution, Kind
from bridge.sandbox.status import live_status
from bridge.sandbox.webhooks import crew_webhook

TASKS = [{"name": "collect", "raw": "1. ..."}, {"name": "verdict", "raw": "go"}]
FLOW = {"output": "draft.md", "raw": False, "error": None, "score": 81}
DEEP: Any = "x"
for _ in range(80):
    DEEP = [DEEP]


def status(body: Mapping[str, Any]) -> Succeeded:
    response = read_status(Reply(200, orjson.dumps(body)))
    assert isinstance(response, Succeeded)
    return response


@pytest.mark.parametrize(
    ("body", "result", "result_json"),
    [
        ({"result": "text"}, "text", None),
        ({"result": ""}, "", None),
        ({"result": {"outcome": 1}, "result_json": {"outcome": 1}}, None, {"outcome": 1}),
        ({"result": FLOW, "result_json": FLOW}, None, FLOW),
        ({"result": {"output": "all there is"}}, None, {"output": "all there is"}),
        ({"result": {}}, None, {}),
        ({"result": ["a", "b"]}, None, ["a", "b"]),
        ({"result": []}, None, []),
        ({"result": 42}, None, 42),
        ({"result": 0}, None, 0),
        ({"result": 0.5}, None, 0.5),
        ({"result": False}, None, False),
        ({"result": '{"a": 1}', "result_json": {"a": 1}}, '{"a": 1}', {"a": 1}),
        ({"result": None, "result_json": {"score": 81}}, None, {"score": 81}),
        ({"result": None, "result_json": "text"}, "text", None),
        ({"result": "text", "output": "text", "raw": ""}, "text", None),
        ({"result": "", "output": "text"}, "text", None),
        ({"result": "", "raw": {"score": 81}}, None, {"score": 81}),
        ({"result": "", "output": "", "tasks": TASKS}, "", None),
        ({"output": {"score": 81}}, None, {"score": 81}),
        ({"raw": 7}, None, 7),
        ({"tasks_output": TASKS}, "go", None),
        ({"task_outputs": TASKS, "last_executed_task": {"output": "not this"}}, "go", None),
        ({"tasks_output": [{"name": "a", "json_dict": {"b": 1}}]}, None, {"b": 1}),
        ({"tasks": [{"output": "go"}]}, "go", None),
        ({"last_executed_task": {"output": "go"}}, "go", None),
        ({"tasks_output": [], "last_executed_task": {"output": None}}, None, None),
        ({"result": None}, None, None),
    ],
)
def test_with_a_state_the_value_is_the_result(body: dict[str, Any], result: str | None, result_json: Any):
    found = status({"state": "SUCCESS", **body})
    assert (found.result, found.result_json, found.dropped) == (result, result_json, ())
    assert type(found.result_json) is type(result_json)


@pytest.mark.parametrize(
    ("body", "result", "result_json"),
    [
        ({"result": "text"}, "text", None),
        ({"result": {"output": "text"}}, "text", None),
        ({"result": {"output": "text", "tasks": TASKS}}, "text", None),
        ({"result": {"output": {"score": 81}}}, None, {"score": 81}),
        ({"result": {"output": {"score": 81}, "verdict": "go"}}, None, {"output": {"score": 81}, "verdict": "go"}),
        ({"result": {"output": "text", "score": 81}}, "text", {"output": "text", "score": 81}),
        ({"result": {"output": "a", "raw": "b"}}, "a", {"output": "a", "raw": "b"}),
        ({"result": {"raw": "text", "json_dict": None, "pydantic": None}}, "text", None),
        ({"result": {"raw": '{"a": 1}', "json_dict": {"a": 1}}}, '{"a": 1}', {"a": 1}),
        ({"result": {"raw": None, "json_dict": {"a": 1}}}, None, {"a": 1}),
        ({"result": {"output": "text"}, "result_json": {"b": 1}}, "text", {"b": 1}),
        ({"result": {"task_outputs": TASKS}}, "go", None),
        ({"result": {"tasks": [{"task_id": "verdict", "output": "go"}]}}, "go", None),
        ({"result": {"tasks": "none"}}, None, {"tasks": "none"}),
        ({"tasks_output": TASKS}, "go", None),
        ({"output": {"score": 81}}, None, {"score": 81}),
        ({"output": "text"}, "text", None),
        ({"output": {"raw": "text"}}, "text", None),
        ({"result": {"score": 81, "verdict": "go"}}, None, {"score": 81, "verdict": "go"}),
        ({"result_json": {"output": "kept"}}, None, {"output": "kept"}),
        ({"result": 42}, None, 42),
        ({"result": [1]}, None, [1]),
        ({"result": False}, None, False),
        ({}, None, None),
    ],
)
def test_without_a_state_an_object_may_wrap_the_result(body: dict[str, Any], result: str | None, result_json: Any):
    found = status({"status": "completed", **body})
    assert (found.result, found.result_json, found.dropped) == (result, result_json, ())
    reported = read_crew_webhook(body)
    assert (reported.result, reported.result_json) == (result, result_json) if reported else not found.has_result


@pytest.mark.parametrize(
    ("body", "result", "result_json", "dropped"),
    [
        ({"result": DEEP}, None, None, ("result",)),
        ({"result": "text", "result_json": DEEP}, "text", None, ("result_json",)),
        ({"result": {"a": 1}, "result_json": {"b": 2}}, None, {"a": 1}, ("result_json",)),
        ({"result": "text", "usage_metrics": DEEP}, "text", None, ("usage",)),
        ({"result": "A", "output": "B", "raw": {"c": 1}}, "A", None, ("output", "raw")),
        ({"result": False, "output": "text"}, None, False, ("output",)),
        ({"result": 1, "output": True, "raw": 0}, None, 1, ("output", "raw")),
        ({"result": None, "result_json": 0, "output": "B"}, None, 0, ("output",)),
        ({"output": "A", "raw": "B"}, "A", None, ("raw",)),
        ({"output": "text", "raw": DEEP}, "text", None, ("raw",)),
    ],
)
def test_an_unstorable_result_is_reported(
    body: dict[str, Any], result: Any, result_json: Any, dropped: tuple[str, ...]
):
    found = status({"state": "SUCCESS", **body})
    assert (found.result, found.result_json, found.dropped) == (result, result_json, dropped)


def test_token_usage_is_read_by_either_name():
    assert status({"state": "SUCCESS", "token_usage": {"total_tokens": 9}}).usage == {"total_tokens": 9}


# The sandbox's dialects ---------------------------------------------------------------------------------------------

SHAPES = ["text", "", {"score": 8}, {"output": "draft.md", "score": 8}, ["a"], 42, 0, 0.5, True, False]


def in_dialect(dialect: Dialect, kind: Kind = "flow") -> Callable[[Execution], Succeeded]:
    def reported(execution: Execution) -> Succeeded:
        said = status_response(dialect, "k-1", live_status(execution, kind, now=9.0), execution)
        response = read_status(Reply(said.code, said.body))
        assert isinstance(response, Succeeded)
        return response

    return reported


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "reported",
    [*map(in_dialect, get_args(Dialect)), lambda execution: read_crew_webhook(crew_webhook(execution))],
    ids=[*get_args(Dialect), "crew_webhook"],
)
def test_every_format_of_result_is_found_in_every_dialect(
    shape: Any, reported: Callable[[Execution], Succeeded | None]
):
    """The bridge showed results of `kickoff-bridge sandbox --dialect status_upper` as null."""
    execution = Execution("k-1", {}, None, 0.0, 1.0, result=shape)
    found = reported(execution)
    assert found is not None
    if isinstance(shape, str):
        assert (found.result, found.result_json) == (shape, None)
    else:
        assert (found.result_json, type(found.result_json)) == (shape, type(shape))


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_the_text_of_a_crew_is_found_in_every_dialect(dialect: Dialect):
    plain, reported = Execution("k-1", {"topic": "tea"}, None, 0.0, 1.0), in_dialect(dialect, "crew")
    assert "tea" in (reported(plain).result or "")
    with_json = reported(replace(plain, result_json={"score": 8}))
    assert with_json.result == '{"score":8}'


@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_the_object_of_a_flow_is_found_in_every_dialect(dialect: Dialect):
    found = in_dialect(dialect)(Execution("k-1", {"topic": "tea"}, None, 0.0, 1.0))
    assert found.result is None
    assert found.result_json["topic"] == "tea"
