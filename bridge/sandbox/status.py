"""What `GET /status` says of an execution at a moment, in the dialect that is seen live (crew API contract 4.2).

`state` is the state, `status` is a sentence for people; an id nobody knows is a state too, not an HTTP error.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

import orjson

from bridge.sandbox.executions import Execution
from bridge.sandbox.settings import Kind

TASKS = (("collect_task", "Researcher"), ("draft_task", "Writer"), ("review_task", "Editor"))
"""Name and agent of each task that every execution goes through, all of the same length."""

STARTED_SHARE = 0.1
"""Up to this part of its run time an execution reads STARTED, then RUNNING."""

NOT_FOUND: Mapping[str, object] = {
    "state": "NOT FOUND",
    "status": "Task not found or Invalid kickoff id",
    "result": None,
    "result_json": None,
    "last_step": None,
    "last_executed_task": None,
    "source": "application",
}

_USAGE = {
    "total_tokens": 1500,
    "prompt_tokens": 1200,
    "cached_prompt_tokens": 0,
    "completion_tokens": 300,
    "successful_requests": len(TASKS),
}


def live_status(execution: Execution | None, kind: Kind, now: float) -> Mapping[str, object]:
    """Return the body of the answer; `execution` is None for an id that is not known."""
    if execution is None:
        return NOT_FOUND
    if now < execution.starts_at:
        return _body("PENDING", "Task is pending")
    if not execution.over(now):
        return _under_way(execution, kind, now)
    if execution.failure is not None:
        return _body("FAILED", execution.failure)  # neither result nor progress: the sentence is all there is
    return _succeeded(execution, kind)


def result_text(execution: Execution, kind: Kind) -> str:
    """Return the final output of a success: the asked-for JSON as text, or a sentence about the first input."""
    if execution.result_json is not None:
        return orjson.dumps(execution.result_json).decode()
    return f"The sandbox {kind} has dealt with {execution.topic() or 'nothing in particular'}."


def _under_way(execution: Execution, kind: Kind, now: float) -> dict[str, object]:
    started = execution.share(now) < STARTED_SHARE
    body = _body("STARTED", "Task is Started") if started else _body("RUNNING", "Task is Running")
    completed = int(execution.share(now) * len(TASKS))
    body["progress"] = _progress(execution, kind, completed, now)
    if kind == "crew" and completed:
        body["last_executed_task"] = _task(execution, completed - 1, f"Notes on {execution.topic()}")
    return body


def _succeeded(execution: Execution, kind: Kind) -> dict[str, object]:
    result = result_text(execution, kind)
    body = _body("SUCCESS", None)
    body["result"] = result
    body["result_json"] = execution.result_json
    body["usage_metrics"] = _USAGE
    body["progress"] = _progress(execution, kind, len(TASKS), execution.ends_at)
    if kind == "crew":
        body["last_executed_task"] = _task(execution, len(TASKS) - 1, result)
    return body


def _body(state: str, sentence: str | None) -> dict[str, object]:
    return {
        "state": state,
        "status": sentence,
        "result": None,
        "result_json": None,
        "usage_metrics": None,
        "progress": None,
        "execution_origin": "api",
        "last_step": None,
        "last_executed_task": None,
        "source": "memory",
    }


def _progress(execution: Execution, kind: Kind, completed: int, at: float) -> dict[str, object]:
    is_crew = kind == "crew"
    name, agent = TASKS[completed] if completed < len(TASKS) else (None, None)
    return {
        "unit": "task" if is_crew else "step",
        "completed": completed,
        "total": len(TASKS) if is_crew else None,  # nobody knows how many steps a flow will take
        "remaining": len(TASKS) - completed if is_crew else None,
        "current": name,
        "current_agent": agent if is_crew else None,
        "started_at": _iso(execution.starts_at),
        "updated_at": _iso(at),
        "duration_seconds": round(at - execution.starts_at, 1),
    }


def _task(execution: Execution, index: int, output: str) -> dict[str, object]:
    name, agent = TASKS[index]
    return {
        "name": name,
        "description": f"The {name} of the sandbox.",
        "expected_output": "Some text.",
        "agent": agent,
        "output": output,
        "kickoff_id": execution.kickoff_id,
        "meta": execution.meta,
    }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
