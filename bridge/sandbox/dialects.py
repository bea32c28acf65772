"""Render `/status` in the dialects other than the live one (crew API contract 4.3, 4.4).

Each is derived from the live dialect:

reference: the published reference; `status` is the state, an unknown id is a 404 (documented only).
celery: the states of the underlying task queue, such as FAILURE and REVOKED, and few members (from the field).
old: crewai up to 1.15.21, or a response from the second store; neither progress nor tasks (documented only).
status_upper: `status` in capitals, and `output` (from one old client).
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from bridge.sandbox.execution import TASKS, Execution
from bridge.sandbox.outputs import output_of
from bridge.sandbox.responses import Response, detail, json_response

Dialect = Literal["live", "reference", "celery", "old", "status_upper"]

_TERMINAL = {"SUCCESS", "FAILED", "REVOKED"}
_OLD = ("state", "status", "result", "result_json", "progress", "last_event", "last_step", "last_executed_task")
_KEPT_BY_OLD = {"state", "status", "result", "result_json"}
_UPPER = {"PENDING": "QUEUED", "SUCCESS": "COMPLETE", "FAILED": "ERROR", "REVOKED": "ERROR"}

Body = Mapping[str, Any]


def status_response(dialect: Dialect, kickoff_id: str, body: Body, execution: Execution | None) -> Response:
    """Render the live `body` in this dialect."""
    return _DIALECTS[dialect](kickoff_id, body, execution)


def is_terminal(body: Body) -> bool:
    """Return whether a live body shows a terminal state."""
    return body["state"] in _TERMINAL


def _live(_kickoff_id: str, body: Body, _execution: Execution | None) -> Response:
    return json_response(200, body)


def _celery(_kickoff_id: str, body: Body, _execution: Execution | None) -> Response:
    state = "FAILURE" if body["state"] == "FAILED" else body["state"]
    return json_response(200, {"state": state, "status": body["status"], "result": body["result"]})


def _old(_kickoff_id: str, body: Body, _execution: Execution | None) -> Response:
    kept = {name: body[name] if name in _KEPT_BY_OLD else None for name in _OLD}
    return json_response(200, {**kept, "source": "application"})


def _status_upper(kickoff_id: str, body: Body, _execution: Execution | None) -> Response:
    if body["state"] == "NOT FOUND":
        return detail(404, body["status"])
    status = _UPPER.get(body["state"], "RUNNING")
    reported = {"kickoff_id": kickoff_id, "status": status}
    if status == "COMPLETE":
        reported["output"] = body["result"]
    if status == "ERROR":
        reported["error"] = body["status"]
    return json_response(200, reported)


def _reference(kickoff_id: str, body: Body, execution: Execution | None) -> Response:
    if execution is None:
        message = f"No execution found with ID: {kickoff_id}"
        return json_response(404, {"error": "Execution not found", "message": message})
    if not is_terminal(body):
        return json_response(200, _reference_running(body, execution))  # it has no state for paused or queued
    seconds = round(execution.ends_at - execution.starts_at, 1)
    if body["state"] == "SUCCESS":
        result = {"output": body["result"], "tasks": _reference_tasks(execution)}
        return json_response(200, {"status": "completed", "result": result, "execution_time": seconds})
    return json_response(200, {"status": "error", "error": body["status"], "execution_time": seconds})


def _reference_running(body: Body, execution: Execution) -> dict[str, object]:
    progress = body.get("progress") or {}
    completed = progress.get("completed", 0)
    counts = {"completed_tasks": completed, "total_tasks": len(TASKS)}
    return {"status": "running", "current_task": execution.task_name(completed), "progress": counts}


def _reference_tasks(execution: Execution) -> list[dict[str, object]]:
    seconds = round(execution.seconds / len(TASKS), 1)
    return [
        {
            "task_id": execution.task_name(index),
            "output": output_of(execution, index),
            "agent": task.agent,
            "execution_time": seconds,
        }
        for index, task in enumerate(TASKS)
    ]


_DIALECTS: Mapping[Dialect, Callable[[str, Body, Execution | None], Response]] = {
    "live": _live,
    "reference": _reference,
    "celery": _celery,
    "old": _old,
    "status_upper": _status_upper,
}
