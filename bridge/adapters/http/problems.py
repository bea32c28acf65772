"""Errors as HTTP responses: `application/problem+json` (RFC 9457) with a stable `code`."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import hdrs, web

from bridge.core.errors import (
    BrokerUnavailable,
    CrewUnreachable,
    PostInProgress,
    RequestRefused,
    StoreBroken,
    StoreDamaged,
    StoreUnavailable,
)
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import ReportFault

REPORT: web.AppKey[ReportFault] = web.AppKey("report", ReportFault)
"""Reports unexpected exceptions in handlers."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5  # sent while storage is unavailable; long enough for a database to fail over
_RETRY_AFTER: Mapping[str, str] = {hdrs.RETRY_AFTER: str(RETRY_AFTER_SECONDS)}
_TYPE = "urn:kickoff-bridge:problem:"  # stable, without a host, because every installation has a different one
_MAX_TEXT = 500  # characters; a detail may quote the request, which may be large

_INTERNAL = "Internal error; see the bridge's log"
_REFUSALS = {
    "invalid_json": (400, "The body is not valid JSON"),
    "invalid_request": (422, "The request is not valid"),
    "unknown_crew": (404, "Unknown crew"),
    "missing_inputs": (422, "Required inputs of the crew are missing"),
    "too_large": (413, "The body is too large"),
    "idempotency_conflict": (422, "The idempotency key was used for a different request"),
    "reply_to_not_allowed": (422, "The reply queue is not allowed"),
    "callback_not_allowed": (422, "The callback URL is not allowed"),
    "unknown_run": (404, "Unknown run"),
    "ambiguous_run_id": (409, "Several runs have ids that begin so"),
    "unknown_delivery": (404, "Unknown delivery"),
    "not_discarded": (409, "The delivery cannot be discarded"),
    "unknown_dead_letter": (404, "Unknown dead letter"),
    "not_replayed": (409, "The dead letter cannot be sent back"),
    "not_waiting": (409, "The run is not waiting for human input"),
    "not_in_doubt": (409, "The run is not in doubt"),
    "unknown_execution": (409, "The crew API does not know the execution"),
    "internal": (500, _INTERNAL),
    "run_is_over": (409, "The run has ended"),
    "run_not_ended": (409, "The run has not ended"),
}


@dataclass(eq=False)
class Problem(Exception):
    """An error response. `field_name`: the invalid field, header, or query parameter.

    `pointer`: the location of the field in the body (JSON Pointer).
    """

    status: int
    code: str
    title: str
    detail: str | None = None
    field_name: str | None = None
    pointer: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        """Return the problem as a response."""
        headers = {**self.headers, hdrs.CACHE_CONTROL: "no-store"}
        return web.Response(
            status=self.status, body=orjson.dumps(self._members()), content_type=MEDIA_TYPE, headers=headers
        )

    def _members(self) -> dict[str, Any]:
        detail, field_name, pointer = _printable(self.detail), _printable(self.field_name), _printable(self.pointer)
        members = {
            "type": _TYPE + self.code,
            "title": self.title,
            "status": self.status,
            "detail": detail,
            "code": self.code,
            "field": field_name,
            "errors": None if pointer is None else [{"pointer": pointer, "detail": detail}],
        }
        return {name: value for name, value in members.items() if value is not None}


def from_status(status: int, detail: str | None = None, headers: Mapping[str, str] | None = None) -> Problem:
    """Return a problem whose code and title are those of the status: 403 is `forbidden`, 405 `method_not_allowed`."""
    known = HTTPStatus(status)
    return Problem(status, known.name.lower(), known.phrase, detail, headers=headers or {})


def too_many_requests(detail: str, wait: float) -> Problem:
    """Return a 429 problem with `Retry-After`; `wait` in seconds."""
    return from_status(429, detail, {hdrs.RETRY_AFTER: str(max(1, math.ceil(wait)))})


def invalid_parameter(name: str, detail: str) -> Problem:
    """Return the problem of an invalid query parameter or header."""
    status, title = _REFUSALS["invalid_request"]
    return Problem(status, "invalid_request", title, detail, name)


def from_exception(error: Exception) -> Problem | None:
    """Return the problem that reports an exception to the client; None for an unexpected exception."""
    match error:
        case Problem():
            return error
        case RequestRefused():
            return _refused(error)
        case PostInProgress():
            return Problem(
                409, "post_in_progress", "A POST to the crew API is in progress", str(error), headers=_RETRY_AFTER
            )
        case CrewUnreachable() | BrokerUnavailable():
            return from_status(503, str(error), _RETRY_AFTER)
        case StoreUnavailable() | StoreBroken() | StoreDamaged():
            return from_status(503, "storage is unavailable; retry with the same idempotency key", _RETRY_AFTER)
        case web.HTTPException():
            return from_status(error.status, headers={k: v for k, v in error.headers.items() if k == hdrs.ALLOW})
        case _:
            return None


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every exception of a handler into a problem; report an unexpected one and reveal nothing of it."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - the last place where a response is still possible
        problem = from_exception(error)
        if problem is None:
            request.app[REPORT](Quarantined.REQUEST, error, method=request.method, route=route_pattern(request))
            problem = Problem(500, "internal", _INTERNAL)
        return problem.response()


def route_pattern(request: web.Request) -> str:
    """Return the route's path pattern, which unlike the path contains no secrets and has few distinct values."""
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
    """Return the text truncated and without lone surrogates, which a quoted key may contain."""
    return None if text is None else text[:_MAX_TEXT].encode("utf-8", "replace").decode()
