"""JSON over HTTP: read a request's body within its limits, write an answer."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.web_protocol import RequestPayloadError

from bridge.adapters import http_problem
from bridge.core import strict_json
from bridge.core.errors import RequestRefused

BODY_SECONDS = web.AppKey("BODY_SECONDS", float)
"""How long a body may take to arrive, in seconds; the server says so."""

_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})  # what aiohttp undoes on every installation


async def read_object(request: web.Request) -> dict[str, Any]:
    """The JSON object in a request's body. Raises `Problem` or `RequestRefused`."""
    media_type = request.content_type
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise http_problem.plain(415, "the body must be application/json", {hdrs.ACCEPT: "application/json"})
    return strict_json.parse_object(await read_body(request))


async def read_body(request: web.Request) -> bytes:
    """The whole body, decompressed. Raises `Problem` or `RequestRefused` if it is too large, too slow or broken.

    The size is counted after decompression; a body that announces too much is refused before it is read.
    """
    if request.headers.get(hdrs.CONTENT_ENCODING, "").lower() not in _ENCODINGS:
        raise http_problem.plain(415, "the body must not be compressed, or by gzip", {hdrs.ACCEPT_ENCODING: "gzip"})
    if (request.content_length or 0) > request.client_max_size:
        raise _too_large(request)
    try:
        async with asyncio.timeout(request.app[BODY_SECONDS]):
            return await request.read()
    except TimeoutError:
        raise http_problem.plain(408, "the body took too long to arrive") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(request) from None
    except (RequestPayloadError, ConnectionError):
        raise http_problem.plain(400, "the body is incomplete, or not encoded as its headers say") from None


def any_json(body: bytes) -> Any:
    """Whatever JSON there is, or None: a crew's webhook that cannot be read still says that something happened.

    So it is with what is nested too deep: it may be written and read once more, by a parser that recurses.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return None if strict_json.deeper_than(strict_json.MAX_DEPTH, value) else value


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
