"""Every way in which the crew API can answer wrongly, as the sandbox plays it, and what each must be taken for."""

from dataclasses import dataclass
from typing import Any

from bridge.core.crew.responses import (
    CrewUnavailable,
    InDoubt,
    KickoffAnswer,
    NoAnswer,
    NotFound,
    NotStarted,
    Refused,
    StatusAnswer,
    Unknown,
)

HTML = {"body": "<html><h1>Bad Gateway</h1></html>", "content_type": "text/html"}
TRACKED = "an-execution-that-another-run-has"


@dataclass(frozen=True, slots=True)
class Case:
    """What the sandbox does, and what the bridge must make of it for a kickoff and for a look."""

    name: str
    rule: dict[str, Any]
    kickoff: type[KickoffAnswer]
    look: type[StatusAnswer]


def code(number: int, **more: Any) -> dict[str, Any]:
    return {"do": "http", "code": number, **more}


CASES = [
    Case("400", code(400, body={"detail": "bad body"}), Refused, NoAnswer),
    Case("401", code(401, body={"detail": "Not authenticated"}), CrewUnavailable, CrewUnavailable),
    Case("403", code(403, body={"detail": "Forbidden"}), CrewUnavailable, CrewUnavailable),
    Case("404", code(404, body={"detail": "Not Found"}), CrewUnavailable, NotFound),
    Case("409", code(409, body={"detail": "Conflict"}), Refused, NoAnswer),
    Case("413", code(413, **HTML), Refused, NoAnswer),
    Case("422", code(422, body={"detail": [{"loc": ["body"], "msg": "Field required"}]}), Refused, NoAnswer),
    Case("429 with Retry-After", code(429, headers={"Retry-After": "7"}), NotStarted, NoAnswer),
    Case("500 text", code(500, body="Internal Server Error"), InDoubt, NoAnswer),
    Case("502 HTML", code(502, **HTML), InDoubt, NoAnswer),
    Case("503 fast", code(503, **HTML), NotStarted, NoAnswer),
    Case("503 slow", {"do": "slow_503", "seconds": 1}, InDoubt, NoAnswer),
    Case("504", code(504, **HTML), InDoubt, NoAnswer),
    Case("301", code(301, headers={"Location": "/elsewhere"}), Refused, NoAnswer),
    Case("307", code(307, headers={"Location": "/kickoff"}), Refused, NoAnswer),
    Case("reset before anything", {"do": "reset_before"}, InDoubt, NoAnswer),
    Case("reset after the headers", {"do": "reset_during"}, InDoubt, NoAnswer),
    Case("reset after the body", {"do": "reset_after"}, InDoubt, NoAnswer),
    Case("closed before anything", {"do": "hang_up_before"}, InDoubt, NoAnswer),
    Case("closed after the body", {"do": "hang_up_after"}, InDoubt, NoAnswer),
    Case("closed in the answer", {"do": "cut_off"}, InDoubt, NoAnswer),
    Case("truncated JSON", {"do": "truncated"}, InDoubt, Unknown),
    Case("200 HTML", {"do": "garbage"}, InDoubt, Unknown),
    Case("20 MiB", {"do": "huge"}, InDoubt, Unknown),
    Case("one byte a second", {"do": "slow"}, InDoubt, NoAnswer),
    Case("never", {"do": "never"}, InDoubt, NoAnswer),
    Case("no usable content", {"do": "wrong_id", "id": "../status"}, InDoubt, Unknown),
    Case("another run's id", {"do": "wrong_id", "id": TRACKED}, InDoubt, NotFound),
]
"""On a look the last two are a state that is no text, and an execution that is not found."""

ONLY_ON_LOOKS = {
    "no usable content": code(200, body={"state": 7, "status": ["?"]}),
    "another run's id": {"do": "not_found"},
}
