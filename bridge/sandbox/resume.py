"""What a resume asks for and what comes of it (crew API contract 5)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from bridge.sandbox.answers import INTERNAL_SERVER_ERROR, Response, detail
from bridge.sandbox.execution import Execution
from bridge.sandbox.hooks import Hooks, read_hooks

Effect = Literal["continued", "asked_again", "no_effect"]

_REQUIRED = ("executionId", "taskId")
_APPROVALS = frozenset(
    {"accepted", "approve", "approved", "continue", "go ahead", "lgtm", "looks good", "ok", "okay", "yes"}
)


@dataclass(frozen=True, slots=True)
class ResumeBody:
    """What a resume says. The documented `is_approve` is not here: the text alone decides (seen in the field)."""

    execution_id: str
    task_id: str
    feedback: str
    hooks: Hooks = field(default_factory=Hooks)


def read_resume(raw: bytes) -> ResumeBody | Response:
    """Read the body, or return the refusal. Only camelCase counts; the documented snake_case is missing (seen live)."""
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
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def resume(execution: Execution | None, body: ResumeBody, now: float) -> Effect:
    """Let the execution go on or ask again; only the newest question of one that waits can be answered."""
    if execution is None or not execution.waiting(now) or body.task_id != execution.question_id:
        return "no_effect"
    if approves(body.feedback):
        execution.go_on(now)
        return "continued"
    execution.repeat(now)
    return "asked_again"


def approves(feedback: str) -> bool:
    """Say whether a text is nothing but an approval; with any remark it counts as instructions."""
    return feedback.strip().rstrip(".!").casefold() in _APPROVALS


def _error(type_: str, message: str, *where: str) -> Mapping[str, object]:
    return {"type": type_, "loc": where, "msg": message}
