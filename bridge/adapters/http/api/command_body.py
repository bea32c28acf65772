"""What somebody who steers over HTTP asks for, and why."""

from typing import Any

from aiohttp import web

from bridge.adapters.http.body import read_object
from bridge.core.errors import RequestRefused

MAX_REASON = 500  # characters
REASON = web.RequestKey("REASON", str)
"""Where what the client said about why is left in the request, for the audit."""


async def read_command_body(request: web.Request) -> dict[str, Any]:
    """The fields of the body but `reason`, which is kept for the audit; none, if there is no body.

    Raises `Problem` or `RequestRefused`.
    """
    body = await read_object(request) if request.body_exists else {}
    reason = body.pop("reason", None)
    if reason is not None and not (isinstance(reason, str) and len(reason) <= MAX_REASON):
        raise RequestRefused("invalid_request", f"must be text of at most {MAX_REASON} characters", "reason")
    request[REASON] = reason or ""
    return body
