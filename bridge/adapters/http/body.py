"""JSON bodies over HTTP: read a request's body within its limits, build a JSON response."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from bridge.adapters.http import problems
from bridge.adapters.http.memory import receive, reserve_for_parsing
from bridge.core import json as strict_json
from bridge.core.errors import RequestRefused
from bridge.core.http.content_coding import inflate

MAX_REASON = 500  # characters
REASON = web.RequestKey("REASON", str)
"""The client's reason for a command, kept in the request for the audit log."""
DETAILS = web.RequestKey("DETAILS", dict[str, Any])
"""What else the audit log says about a command, such as its filter, and how many runs matched."""
BODY_SECONDS = web.AppKey("BODY_SECONDS", float)
"""How long a body may take to arrive, in seconds; set by the server."""

_CODINGS = frozenset({"gzip", "deflate"})
_MALFORMED = "the body is incomplete or not encoded as its headers declare"


async def read_object(request: web.Request) -> dict[str, Any]:
    """Return the JSON object in a request's body. Raise `Problem` or `RequestRefused`."""
    return strict_json.parse_object(await read_json(request))


async def read_json(request: web.Request) -> bytes:
    """Return the body of a request whose content type is JSON, unparsed. Raise `Problem` or `RequestRefused`."""
    media_type = request.content_type
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise problems.from_status(415, "the body must be application/json", {hdrs.ACCEPT: "application/json"})
    return await read_body(request)


async def read_command_body(request: web.Request) -> dict[str, Any]:
    """Return the body's members without `reason`, which is kept for the audit log; without a body, no members.

    Raise `Problem` or `RequestRefused`.
    """
    body = await read_object(request) if request.body_exists else {}
    reason = body.pop("reason", None)
    if reason is not None and not (isinstance(reason, str) and len(reason) <= MAX_REASON):
        raise RequestRefused("invalid_request", f"must be a string of at most {MAX_REASON} characters", "reason")
    request[REASON] = reason or ""
    return body


async def read_body(request: web.Request) -> bytes:
    """Return the whole body of an authenticated caller, decompressed.

    Raise `Problem` or `RequestRefused` if the body is too large, too slow, or malformed. The size is limited before and
    after decompression; a body whose Content-Length is too large is refused before it is read.
    """
    codings = _codings(request)
    if len(codings) > 1 or not _CODINGS.issuperset(codings):
        detail = "the body must be uncompressed, or compressed once with gzip or deflate"
        raise problems.from_status(415, detail, {hdrs.ACCEPT_ENCODING: "gzip, deflate"})
    body = await _read_raw(request)
    content = _decompressed(request, body, codings[0]) if codings else body
    await reserve_for_parsing(request, content)
    return content


async def read_uncompressed_body(request: web.Request) -> bytes:
    """Return the whole body of a caller that is authenticated by a signature over it; refuse a compressed body unread.

    The signature covers the bytes as sent, and nothing is decompressed for unauthenticated callers.
    """
    if _codings(request):
        raise problems.from_status(415, "the body must not be compressed", {hdrs.ACCEPT_ENCODING: "identity"})
    body = await _read_raw(request)
    await reserve_for_parsing(request, body)
    return body


async def read_beginning(request: web.Request, size: int) -> bytes:
    """Return the first bytes of a body that `read_body` refused unread, because of its Content-Length; else nothing."""
    if (request.content_length or 0) <= request.client_max_size:
        return b""
    try:
        async with asyncio.timeout(request.app[BODY_SECONDS]):
            return await request.content.readexactly(min(size, request.client_max_size))
    except (TimeoutError, EOFError, RequestPayloadError, ConnectionError):
        return b""


def _codings(request: web.Request) -> list[str]:
    named = ",".join(request.headers.getall(hdrs.CONTENT_ENCODING, [])).lower().split(",")
    return [coding.strip() for coding in named if coding.strip() not in ("", "identity")]


def _decompressed(request: web.Request, body: bytes, coding: str) -> bytes:
    try:
        content = inflate(body, coding, request.client_max_size)
    except ValueError:
        raise problems.from_status(400, _MALFORMED) from None
    if content is None:
        raise _too_large(request)
    return content


async def _read_raw(request: web.Request) -> bytes:
    if (request.content_length or 0) > request.client_max_size:
        raise _too_large(request)
    try:
        return await receive(request, request.app[BODY_SECONDS])
    except TimeoutError:
        raise problems.from_status(408, "the body took too long to arrive") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(request) from None
    except (RequestPayloadError, ConnectionError):
        raise problems.from_status(400, _MALFORMED) from None


def respond(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a JSON response that must not be cached."""
    return web.Response(
        status=status,
        body=_encode(value),
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store", **(headers or {})},
    )


def _encode(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # orjson rejects integers beyond 64 bits and lone surrogates, which JSON allows
        return json.dumps(value, separators=(",", ":")).encode()


def _too_large(request: web.Request) -> RequestRefused:
    return RequestRefused("too_large", f"the body must not exceed {request.client_max_size} bytes (http.max_body)")
