"""Every fault of the crew API, as the sandbox produces it, and its classification."""

from dataclasses import dataclass
from typing import Any

from bridge.core.crew.responses import (
    CrewUnavailable,
    InDoubt,
    KickoffResponse,
    NoResponse,
    NotFound,
    NotStarted,
    Refused,
    Running,
    Started,
    StatusResponse,
    Unknown,
)

HTML = {"body": "<html><h1>Bad Gateway</h1></html>", "content_type": "text/html"}
TRACKED = "an-execution-that-another-run-has"


@dataclass(frozen=True, slots=True)
class Case:
    """The rule of the sandbox, and the classification for a kickoff and for a poll."""

    name: str
    rule: dict[str, Any]
    kickoff: type[KickoffResponse]
    poll: type[StatusResponse]


def code(number: int, **more: Any) -> dict[str, Any]:
    return {"do": "http", "code": number, **more}


CASES = [
    Case("400", code(400, body={"detail": "bad body"}), Refused, NoResponse),
    Case("401", code(401, body={"detail": "Not authenticated"}), CrewUnavailable, CrewUnavailable),
    Case("403", code(403, body={"detail": "Forbidden"}), CrewUnavailable, CrewUnavailable),
    Case("404", code(404, body={"detail": "Not Found"}), CrewUnavailable, NotFound),
    Case("409", code(409, body={"detail": "Conflict"}), Refused, NoResponse),
    Case("413", code(413, **HTML), Refused, NoResponse),
    Case("422", code(422, body={"detail": [{"loc": ["body"], "msg": "Field required"}]}), Refused, NoResponse),
    Case("429 with Retry-After", code(429, headers={"Retry-After": "7"}), NotStarted, NoResponse),
    Case("500 text", code(500, body="Internal Server Error"), InDoubt, NoResponse),
    Case("502 HTML", code(502, **HTML), InDoubt, NoResponse),
    Case("503 fast", code(503, **HTML), NotStarted, NoResponse),
    Case("503 slow", {"do": "slow_503", "seconds": 1}, InDoubt, NoResponse),
    Case("504", code(504, **HTML), InDoubt, NoResponse),
    Case("301", code(301, headers={"Location": "/elsewhere"}), Refused, NoResponse),
    Case("307", code(307, headers={"Location": "/kickoff"}), Refused, NoResponse),
    Case("reset before anything", {"do": "reset_before"}, InDoubt, NoResponse),
    Case("reset after the headers", {"do": "reset_during"}, InDoubt, NoResponse),
    Case("reset after the body", {"do": "reset_after"}, InDoubt, NoResponse),
    Case("closed before anything", {"do": "hang_up_before"}, InDoubt, NoResponse),
    Case("closed after the body", {"do": "hang_up_after"}, InDoubt, NoResponse),
    Case("closed during the response", {"do": "cut_off"}, InDoubt, NoResponse),
    Case("truncated JSON", {"do": "truncated"}, InDoubt, Unknown),
    Case("200 HTML", {"do": "garbage"}, InDoubt, Unknown),
    Case("40 MiB", {"do": "huge", "bytes": 40 * 1024 * 1024}, Started, Running),
    Case("one byte a second", {"do": "slow"}, InDoubt, NoResponse),
    Case("never", {"do": "never"}, InDoubt, NoResponse),
    Case("no usable content", {"do": "wrong_id", "id": "../status"}, InDoubt, Unknown),
    Case("another run's id", {"do": "wrong_id", "id": TRACKED}, InDoubt, NotFound),
]
"""For a poll, the last two are a state that is not text, and an execution that is not found."""

ONLY_ON_POLLS = {
    "no usable content": code(200, body={"state": 7, "status": ["?"]}),
    "another run's id": {"do": "not_found"},
}
