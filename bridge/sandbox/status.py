"""Build the body of `GET /status` in the live dialect (crew API contract 4.2).

`state` is the state, `status` is a sentence for people; an unknown ID is a state, not an HTTP error.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from bridge.sandbox.execution import TASKS, Execution, Kind
from bridge.sandbox.outputs import TOKENS, describe, results_of
from bridge.sandbox.settings import HumanStatus

STARTED_SHARE = 0.1
"""Up to this fraction of its run time an execution is STARTED, then RUNNING."""

NOT_FOUND: Mapping[str, object] = {
    "state": "NOT FOUND",
    "status": "Task not found or Invalid kickoff id",
    "result": None,
    "result_json": None,
    "last_step": None,
    "last_executed_task": None,
    "source": "application",
}


def live_status(
    execution: Execution | None, kind: Kind, now: float, human_status: HumanStatus | None = None
) -> Mapping[str, object]:
    """Return the body of the response; `execution` is None for an unknown ID.

    `human_status` is what a waiting execution reads; None: what was seen, NOT FOUND for a crew, PAUSED for a flow.
    """
    if execution is None:
        return NOT_FOUND
    if execution.over(now):
        return _ended(execution, kind)
    if execution.waiting(now):
        return _waiting(execution, kind, now, human_status)
    if now < execution.starts_at:
        return _body("PENDING", "Task is pending")
    return _under_way(execution, kind, now)


def failed(sentence: str) -> dict[str, object]:
    """Return the body of a failure: only the sentence, without result or progress (observed live)."""
    return _body("FAILED", sentence)


def _ended(execution: Execution, kind: Kind) -> dict[str, object]:
    if execution.revoked:
        return _body("REVOKED", "Task was revoked")  # documented only
    if execution.failure is not None:
        return failed(execution.failure)
    return _succeeded(execution, kind)


def _waiting(execution: Execution, kind: Kind, now: float, human_status: HumanStatus | None) -> Mapping[str, object]:
    status = human_status or ("not_found" if kind == "crew" else "paused")
    if status == "not_found":
        return NOT_FOUND
    body = _under_way(execution, kind, now)
    if status == "paused":
        body |= {"state": "PAUSED", "status": "awaiting_human_feedback"}
        if kind == "flow":
            body["flow_id"] = execution.state_id
    return body


def _under_way(execution: Execution, kind: Kind, now: float) -> dict[str, object]:
    started = execution.share(now) < STARTED_SHARE
    body = _body("STARTED", "Task is Started") if started else _body("RUNNING", "Task is Running")
    completed = int(execution.share(now) * len(TASKS))
    body["progress"] = _progress(execution, kind, completed, now)
    if kind == "crew" and completed:
        body["last_executed_task"] = describe(execution, completed - 1)
    return body


def _succeeded(execution: Execution, kind: Kind) -> dict[str, object]:
    body = _body("SUCCESS", None)
    body |= results_of(execution, kind)
    body["usage_metrics"] = TOKENS
    body["progress"] = _progress(execution, kind, len(TASKS), execution.ends_at)
    if kind == "crew":
        body["last_executed_task"] = describe(execution, len(TASKS) - 1)
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
    current = TASKS[completed] if completed < len(TASKS) else None
    return {
        "unit": "task" if is_crew else "step",
        "completed": completed,
        "total": len(TASKS) if is_crew else None,  # the number of steps of a flow is unknown
        "remaining": len(TASKS) - completed if is_crew else None,
        "current": execution.task_name(completed) if current else None,
        "current_agent": current.agent if current and is_crew else None,
        "started_at": _iso(execution.starts_at),
        "updated_at": _iso(at),
        "duration_seconds": round(at - execution.starts_at, 1),
    }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
