"""Read and apply a resume (crew API contract 5)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.sandbox.exact_json import read_json
from bridge.sandbox.execution import Execution
from bridge.sandbox.hooks import Hooks, read_hooks
from bridge.sandbox.responses import INTERNAL_SERVER_ERROR, Response, detail

Effect = Literal["continued", "asked_again", "no_effect"]

_REQUIRED = ("executionId", "taskId")
_APPROVALS = frozenset(
    {"accepted", "approve", "approved", "continue", "go ahead", "lgtm", "looks good", "ok", "okay", "yes"}
)


@dataclass(frozen=True, slots=True)
class ResumeBody:
    """The content of a resume. The documented `is_approve` is ignored: only the text decides (seen in the field)."""

    execution_id: str
    task_id: str
    feedback: str
    hooks: Hooks = field(default_factory=Hooks)


def read_resume(raw: bytes) -> ResumeBody | Response:
    """Read the body, or return the error. Only camelCase counts; documented snake_case is missing (observed live)."""
    body = parsed(raw)
    if not isinstance(body, dict):
        return INTERNAL_SERVER_ERROR if body is None else detail(422, [_error("dict_type", "Not an object", "body")])
    if missing := [name for name in _REQUIRED if name not in body]:
        return detail(422, [_error("missing", "Field required", "body", name) for name in missing])
    if wrong := [name for name in _REQUIRED if not isinstance(body[name], str)]:
        return detail(422, [_error("string_type", "Input should be a valid string", "body", name) for name in wrong])
    return ResumeBody(body["executionId"], body["taskId"], str(body.get("humanFeedback") or ""), read_hooks(body))


def parsed(raw: bytes) -> Any:
    """Return the JSON value of a body, None for one that is not JSON."""
    try:
        return read_json(raw)
    except ValueError:
        return None


def resume(execution: Execution | None, body: ResumeBody, now: float) -> Effect:
    """Continue the execution or ask again; only the current question of a waiting execution can be answered."""
    if execution is None or not execution.waiting(now) or body.task_id != execution.question_id:
        return "no_effect"
    if approves(body.feedback):
        execution.resume(now)
        return "continued"
    execution.repeat(now)
    return "asked_again"


def approves(feedback: str) -> bool:
    """Return whether a text is only an approval; any further remark makes it an instruction."""
    return feedback.strip().rstrip(".!").casefold() in _APPROVALS


def _error(type_: str, message: str, *where: str) -> Mapping[str, object]:
    return {"type": type_, "loc": where, "msg": message}
