"""JSON over HTTP: read a request's body within its limits, write an answer."""

import json
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from bridge.adapters.http import problems
from bridge.adapters.http.memory import receive, room_to_parse
from bridge.core import json as strict_json
from bridge.core.errors import RequestRefused
from bridge.core.http.content_coding import inflate

BODY_SECONDS = web.AppKey("BODY_SECONDS", float)
"""How long a body may take to arrive, in seconds; the server says so."""

_CODINGS = frozenset({"gzip", "deflate"})
_BROKEN = "the body is incomplete, or not encoded as its headers say"


async def read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object in a request's body. Raises `Problem` or `RequestRefused`."""
    media_type = request.content_type
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise problems.plain(415, "the body must be application/json", {hdrs.ACCEPT: "application/json"})
    return strict_json.parse_object(await read_body(request))


async def read_body(request: web.Request) -> bytes:
    """Return the whole body of an authenticated caller, decompressed.

    Raises `Problem` or `RequestRefused` if it is too large, too slow or broken. The size is limited before and after
    decompression; a body that announces too much is refused before it is read.
    """
    codings = _codings(request)
    if len(codings) > 1 or not _CODINGS.issuperset(codings):
        detail = "the body must not be compressed, or only once, by gzip or deflate"
        raise problems.plain(415, detail, {hdrs.ACCEPT_ENCODING: "gzip, deflate"})
    body = await _read_raw(request)
    content = _inflated(request, body, codings[0]) if codings else body
    await room_to_parse(request, content)
    return content


async def read_plain_body(request: web.Request) -> bytes:
    """Return the whole body of a caller that only the body itself can authenticate; a compressed one is refused unread.

    What was signed would not be what is read, and nothing is decompressed for unauthenticated callers.
    """
    if _codings(request):
        raise problems.plain(415, "the body must not be compressed", {hdrs.ACCEPT_ENCODING: "identity"})
    body = await _read_raw(request)
    await room_to_parse(request, body)
    return body


def _codings(request: web.Request) -> list[str]:
    named = ",".join(request.headers.getall(hdrs.CONTENT_ENCODING, [])).lower().split(",")
    return [coding.strip() for coding in named if coding.strip() not in ("", "identity")]


def _inflated(request: web.Request, body: bytes, coding: str) -> bytes:
    try:
        content = inflate(body, coding, request.client_max_size)
    except ValueError:
        raise problems.plain(400, _BROKEN) from None
    if content is None:
        raise _too_large(request)
    return content


async def _read_raw(request: web.Request) -> bytes:
    if (request.content_length or 0) > request.client_max_size:
        raise _too_large(request)
    try:
        return await receive(request, request.app[BODY_SECONDS])
    except TimeoutError:
        raise problems.plain(408, "the body took too long to arrive") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(request) from None
    except (RequestPayloadError, ConnectionError):
        raise problems.plain(400, _BROKEN) from None


def respond(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer in JSON that no cache keeps."""
    return web.Response(
        status=status,
        body=_dump(value),
        content_type="application/json",
        headers={hdrs.CACHE_CONTROL: "no-store", **(headers or {})},
    )


def _dump(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # orjson stops at 64 bits and at lone surrogates; JSON, a crew and a producer do not
        return json.dumps(value, separators=(",", ":")).encode()


def _too_large(request: web.Request) -> RequestRefused:
    return RequestRefused("too_large", f"the body may have at most {request.client_max_size} bytes")
