"""Every shape of a result in every dialect: what the bridge publishes, as docs/crew-api.md shows it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.core.crew.reply import Reply
from bridge.core.crew.responses import Succeeded, read_crew_webhook, read_status

PAGE = Path(__file__).parents[3] / "docs" / "crew-api.md"

SHAPES: dict[str, Any] = {
    "text": "go",
    "empty text": "",
    "JSON in text": '{"score": 81}',
    "object": {"score": 81},
    "object with `output`": {"output": "draft.md", "score": 81},
    "list": ["a", "b"],
    "0": 0,
    "false": False,
    "null": None,
}
LAST = {"name": "verdict", "agent": "Judge", "output": "go"}


def tasks(name: str, output: str, last: Any) -> list[dict[str, Any]]:
    return [{name: "collect", output: "1. ..."}, {name: "verdict", output: last}]


def alone(value: Any) -> Any:
    """The value as `result_json`, which the live API fills only with an object."""
    return value if isinstance(value, dict) else None


DIALECTS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "`state`, `result`": lambda value: {
        "state": "SUCCESS", "status": None, "result": value, "result_json": alone(value), "last_executed_task": LAST,
    },
    "`state`, only `result_json`": lambda value: {"state": "SUCCESS", "result": None, "result_json": value},
    "`state`, only `tasks_output`": lambda value: {"state": "SUCCESS", "tasks_output": tasks("name", "raw", value)},
    "`status`, `result.output`, `result.tasks`": lambda value: {
        "status": "completed", "result": {"output": value, "tasks": tasks("task_id", "output", value)},
        "execution_time": 61.9,
    },
    "`status`, `result.raw`": lambda value: {
        "status": "COMPLETED", "result": {"raw": value, "json_dict": None, "pydantic": None},
    },
    "`status`, `result.task_outputs`": lambda value: {
        "status": "complete", "result": {"task_outputs": tasks("name", "raw", value)},
    },
    "`status`, `tasks_output`": lambda value: {"status": "completed", "tasks_output": tasks("name", "raw", value)},
    "`status`, `output`": lambda value: {"status": "COMPLETE", "output": value},
    "`status`, `result`": lambda value: {"status": "completed", "result": value},
    "crew webhook": lambda value: {"kickoff_id": "k-1", "result": value, "result_json": alone(value)},
}  # fmt: skip


def read(dialect: str, value: Any) -> Succeeded:
    body = DIALECTS[dialect](value)
    if dialect == "crew webhook":
        return read_crew_webhook(body) or Succeeded(None)
    response = read_status(Reply(200, json.dumps(body).encode()))
    assert isinstance(response, Succeeded)
    return response


def shown(found: Succeeded, value: Any) -> str:
    """A cell of the table: the members that hold the value, or what they hold instead."""
    members = [("result", found.result), ("result_json", found.result_json)]
    kept = [
        f"`{name}`" if same(member, value) else f"`{name}`: {'the object' if isinstance(member, dict) else member}"
        for name, member in members
        if member is not None
    ]
    return ", ".join(kept) or "none"


def same(found: Any, value: Any) -> bool:
    return found is not None and type(found) is type(value) and found == value


def rows() -> list[str]:
    head = ["dialect", *SHAPES, "`tasks`"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for dialect in DIALECTS:
        cells = [shown(read(dialect, value), value) for value in SHAPES.values()]
        named = [task.name or "" for task in read(dialect, "go").tasks.tasks]
        lines.append(f"| {dialect} | {' | '.join(cells)} | {', '.join(named) or 'none'} |")
    return lines


def test_the_published_table_shows_what_is_read():
    """To change the table, copy the lines of the failed comparison."""
    assert [line for line in PAGE.read_text("utf-8").splitlines() if line in rows()] == rows()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape not in {"null", "empty text"}])
def test_no_value_is_lost(dialect: str, shape: str):
    found = read(dialect, SHAPES[shape])
    kept = found.result if isinstance(SHAPES[shape], str) else found.result_json
    assert same(kept, SHAPES[shape])
    assert found.dropped == ()
