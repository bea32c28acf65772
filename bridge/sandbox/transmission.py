"""Send a response as its fault requires: whole, in part, slowly, padded, or not at all."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from aiohttp import web

from bridge.sandbox.responses import Response
from bridge.sandbox.rules import Fault, FaultKind

_CHUNK = 64 * 1024
_CHECK_INTERVAL = 0.05  # seconds between checks whether a caller without a response is still connected


def respond(response: Response) -> web.Response:
    """Return the response unchanged."""
    return web.Response(status=response.code, body=response.body, headers=_headers(response))


async def send(request: web.Request, response: Response, fault: Fault) -> web.StreamResponse:
    """Send the response as the fault requires; a disconnect of the caller ends it."""
    write = _WRITERS.get(fault.kind)
    if write is None:
        return respond(response)
    try:
        return await write(request, response, fault)
    except ConnectionError:
        return web.Response()


async def _hang_up(request: web.Request, _answer: Response, _fault: Fault) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return web.Response()  # a handler must return something; it goes nowhere


async def _reset(request: web.Request, _answer: Response, _fault: Fault) -> web.StreamResponse:
    transport = request.transport
    if transport is not None:
        # Closing with a linger time of 0 sends RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def _never(request: web.Request, _answer: Response, _fault: Fault) -> web.StreamResponse:
    # aiohttp reports a disconnect only by cancelling the handler, which must not happen during a write.
    while request.transport is not None:  # noqa: ASYNC110  (no event to wait for)
        await asyncio.sleep(_CHECK_INTERVAL)
    return web.Response()


async def _truncated(_request: web.Request, response: Response, _fault: Fault) -> web.StreamResponse:
    return respond(replace(response, body=_half(response)))


async def _cut_off(request: web.Request, response: Response, fault: Fault) -> web.StreamResponse:
    stream = await _open(request, response, len(response.body))
    await stream.write(_half(response))
    return await _hang_up(request, response, fault)


async def _huge(request: web.Request, response: Response, fault: Fault) -> web.StreamResponse:
    head, padding, tail = response.body.removesuffix(b"}"), b'%b"padding":"', b'"}'
    opening = head + padding % (b"," if head != b"{" else b"")
    stream = await _open(request, response, len(opening) + fault.size + len(tail))
    await stream.write(opening)
    for offset in range(0, fault.size, _CHUNK):
        await stream.write(b"x" * min(_CHUNK, fault.size - offset))
    await stream.write(tail)
    return stream


async def _slow(request: web.Request, response: Response, fault: Fault) -> web.StreamResponse:
    stream = await _open(request, response, len(response.body))
    for byte in response.body:
        await asyncio.sleep(fault.byte_interval)
        await stream.write(bytes((byte,)))
    return stream


async def _open(request: web.Request, response: Response, length: int) -> web.StreamResponse:
    stream = web.StreamResponse(status=response.code, headers=_headers(response))
    stream.content_length = length
    await stream.prepare(request)
    return stream


def _headers(response: Response) -> dict[str, str]:
    return {"Content-Type": response.content_type, **response.headers}


def _half(response: Response) -> bytes:
    return response.body[: len(response.body) // 2]


_Writer = Callable[[web.Request, Response, Fault], Awaitable[web.StreamResponse]]

_WRITERS: Mapping[FaultKind | None, _Writer] = {
    "hang_up_before": _hang_up,
    "hang_up_after": _hang_up,
    "reset_before": _reset,
    "reset_during": _reset,
    "reset_after": _reset,
    "never": _never,
    "truncated": _truncated,
    "cut_off": _cut_off,
    "huge": _huge,
    "slow": _slow,
}
