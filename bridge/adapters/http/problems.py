"""Errors as HTTP tells them: `application/problem+json` (RFC 9457) with a stable `code`."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import hdrs, web

from bridge.core.errors import (
    CrewUnreachable,
    PostUnderWay,
    RequestRefused,
    Stale,
    StoreBroken,
    StoreDamaged,
    StoreUnavailable,
)
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.processing import ReportFault

REPORT: web.AppKey[ReportFault] = web.AppKey("report", ReportFault)
"""What hears of bugs in handlers."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5  # asked for while the store is away; long enough for a database to fail over
_TYPE = "urn:kickoff-bridge:problem:"  # stable and without a host, because every installation has its own
_MAX_TEXT = 500  # characters; a sentence may quote the request, and a request may be large

_FAILED = "The bridge failed; its log says why"
_REFUSALS = {
    "invalid_json": (400, "The body is not acceptable JSON"),
    "invalid_request": (422, "The request is not valid"),
    "unknown_crew": (404, "There is no such crew"),
    "missing_inputs": (422, "The crew needs inputs that are missing"),
    "too_large": (413, "The body is too large"),
    "idempotency_conflict": (422, "The idempotency key was used for another request"),
    "reply_to_not_allowed": (422, "The reply queue is not allowed"),
    "callback_not_allowed": (422, "The callback URL is not allowed"),
    "unknown_run": (404, "There is no such run"),
    "unknown_delivery": (404, "There is no such delivery"),
    "not_waiting": (409, "The run does not wait for an answer"),
    "not_in_doubt": (409, "The run is not in doubt"),
    "unknown_execution": (409, "The crew API does not know the execution"),
    "internal": (500, _FAILED),
    "run_is_over": (409, "The run has ended"),
}


@dataclass(eq=False)
class Problem(Exception):
    """An answer that is an error. `about`: the field, header or query parameter that is wrong.

    `pointer`: where a field is in the body (JSON Pointer).
    """

    status: int
    code: str
    title: str
    detail: str | None = None
    about: str | None = None
    pointer: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        """The problem, ready to send."""
        headers = {**self.headers, hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(
            status=self.status, body=orjson.dumps(self._members()), content_type=MEDIA_TYPE, headers=headers
        )

    def _members(self) -> dict[str, Any]:
        detail, about, pointer = _printable(self.detail), _printable(self.about), _printable(self.pointer)
        members = {
            "type": _TYPE + self.code,
            "title": self.title,
            "status": self.status,
            "detail": detail,
            "code": self.code,
            "field": about,
            "errors": None if pointer is None else [{"pointer": pointer, "detail": detail}],
        }
        return {name: value for name, value in members.items() if value is not None}


def plain(status: int, detail: str | None = None, headers: Mapping[str, str] | None = None) -> Problem:
    """A problem that says no more than its HTTP status; 403 is `forbidden`, 405 is `method_not_allowed`."""
    known = HTTPStatus(status)
    return Problem(status, known.name.lower(), known.phrase, detail, headers=headers or {})


def too_often(detail: str, wait: float) -> Problem:
    """Somebody must slow down; `wait` in seconds."""
    return plain(429, detail, {hdrs.RETRY_AFTER: str(max(1, math.ceil(wait)))})


def parameter(name: str, detail: str) -> Problem:
    """A query parameter or header that is not valid."""
    status, title = _REFUSALS["invalid_request"]
    return Problem(status, "invalid_request", title, detail, name)


def of(error: Exception) -> Problem | None:
    """What to tell the client about this error; None if it is a bug."""
    match error:
        case Problem():
            return error
        case RequestRefused():
            return _refused(error)
        case PostUnderWay():
            return Problem(
                409, "post_under_way", "A POST is under way", str(error), headers={hdrs.RETRY_AFTER: str(RETRY_SECONDS)}
            )
        case CrewUnreachable():
            return plain(503, str(error), {hdrs.RETRY_AFTER: str(RETRY_SECONDS)})
        case StoreUnavailable() | StoreBroken() | StoreDamaged():
            unknown = (
                "the store is away; nothing was stored, or its confirmation was lost: come again with the same key"
            )
            return plain(503, unknown, {hdrs.RETRY_AFTER: str(RETRY_SECONDS)})
        case Stale():
            return plain(
                503, "others are writing this run; nothing was changed", {hdrs.RETRY_AFTER: str(RETRY_SECONDS)}
            )
        case web.HTTPException():
            return plain(error.status, headers={k: v for k, v in error.headers.items() if k == hdrs.ALLOW})
        case _:
            return None


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception of the handlers into a problem; a bug is logged and tells nothing."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - the last place where a bug can still be answered
        problem = of(error)
        if problem is None:
            request.app[REPORT](Quarantined.REQUEST, error, method=request.method, route=route_pattern(request))
            problem = Problem(500, "internal", _FAILED)
        return problem.response()


def route_pattern(request: web.Request) -> str:
    """The path as the route writes it: unlike the real one it has no secrets and few values."""
    resource = request.match_info.route.resource
    return "unknown" if resource is None else resource.canonical


def _refused(error: RequestRefused) -> Problem:
    status, title = _REFUSALS[error.code]
    return Problem(status, error.code, title, error.detail, error.field, _pointer(error.field))


def _pointer(path: str | None) -> str | None:
    if path is None:
        return None
    return "/" + path.replace("~", "~0").replace("/", "~1").replace(".", "/")


def _printable(text: str | None) -> str | None:
    """The text at a sane length and in Unicode; a repeated key may be a lone surrogate."""
    return None if text is None else text[:_MAX_TEXT].encode("utf-8", "replace").decode()
