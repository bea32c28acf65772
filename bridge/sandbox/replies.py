"""How an answer goes over the wire: whole, in part, slowly, padded, or not at all."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from aiohttp import web

from bridge.sandbox.answers import Response
from bridge.sandbox.rules import Fault, FaultKind

_CHUNK = 64 * 1024
_GLANCE = 0.05  # so often a call that gets no answer is asked whether its caller is still there


def respond(answer: Response) -> web.Response:
    """Answer as usual."""
    return web.Response(status=answer.code, body=answer.body, headers=_headers(answer))


async def reply(request: web.Request, answer: Response, fault: Fault) -> web.StreamResponse:
    """Answer in the way of the fault, as far as the caller stays to hear it."""
    way = _WAYS.get(fault.kind)
    if way is None:
        return respond(answer)
    try:
        return await way(request, answer, fault)
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
    # aiohttp tells a handler nothing of a caller who left, unless it may cancel it: not in the middle of a write.
    while request.transport is not None:  # noqa: ASYNC110  (nothing to wait for)
        await asyncio.sleep(_GLANCE)
    return web.Response()


async def _truncated(_request: web.Request, answer: Response, _fault: Fault) -> web.StreamResponse:
    return respond(replace(answer, body=_half(answer)))


async def _cut_off(request: web.Request, answer: Response, fault: Fault) -> web.StreamResponse:
    response = await _begin(request, answer, len(answer.body))
    await response.write(_half(answer))
    return await _hang_up(request, answer, fault)


async def _huge(request: web.Request, answer: Response, fault: Fault) -> web.StreamResponse:
    head, padding, tail = answer.body.removesuffix(b"}"), b'%b"padding":"', b'"}'
    opening = head + padding % (b"," if head != b"{" else b"")
    response = await _begin(request, answer, len(opening) + fault.size + len(tail))
    await response.write(opening)
    for place in range(0, fault.size, _CHUNK):
        await response.write(b"x" * min(_CHUNK, fault.size - place))
    await response.write(tail)
    return response


async def _slow(request: web.Request, answer: Response, fault: Fault) -> web.StreamResponse:
    response = await _begin(request, answer, len(answer.body))
    for byte in answer.body:
        await asyncio.sleep(fault.rate_limiter)
        await response.write(bytes((byte,)))
    return response


async def _begin(request: web.Request, answer: Response, length: int) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.code, headers=_headers(answer))
    response.content_length = length
    await response.prepare(request)
    return response


def _headers(answer: Response) -> dict[str, str]:
    return {"Content-Type": answer.content_type, **answer.headers}


def _half(answer: Response) -> bytes:
    return answer.body[: len(answer.body) // 2]


_Way = Callable[[web.Request, Response, Fault], Awaitable[web.StreamResponse]]

_WAYS: Mapping[FaultKind | None, _Way] = {
    "hang_up_before": _hang_up,
    "hang_up_after": _hang_up,
    "reset_before": _reset,
    "reset_during": _reset,
    "reset_after": _reset,
    "never": _never,
    "truncated": _truncated,
    "part_cancelled": _cut_off,
    "huge": _huge,
    "slow": _slow,
}
