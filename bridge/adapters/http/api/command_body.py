"""The body of a command: its fields, and the reason for the audit log."""

from typing import Any

from aiohttp import web

from bridge.adapters.http.body import read_object
from bridge.core.errors import RequestRefused

MAX_REASON = 500  # characters
REASON = web.RequestKey("REASON", str)
"""The client's reason, kept in the request for the audit log."""


async def read_command_body(request: web.Request) -> dict[str, Any]:
    """Return the body's fields without `reason`, which is kept for the audit log; without a body, no fields.

    Raise `Problem` or `RequestRefused`.
    """
    body = await read_object(request) if request.body_exists else {}
    reason = body.pop("reason", None)
    if reason is not None and not (isinstance(reason, str) and len(reason) <= MAX_REASON):
        raise RequestRefused("invalid_request", f"must be a string of at most {MAX_REASON} characters", "reason")
    request[REASON] = reason or ""
    return body
