"""Memory that requests and responses hold: bodies as they arrive, their parsed values, responses until they are sent.

All are counted by caller. A body under way makes room for others when there are too many; a complete one waits before
it is parsed, and a response before it is read from the store.
"""

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from bridge.adapters.byte_budget import BODIES, RESPONSES, VALUES, ByteBudget, Hold
from bridge.adapters.http import problems
from bridge.core.addresses import client_network


@dataclass(frozen=True, slots=True)
class HttpMemory:
    """What all ports together may hold."""

    bodies: ByteBudget = field(default_factory=lambda: ByteBudget(BODIES))
    values: ByteBudget = field(default_factory=lambda: ByteBudget(VALUES, share=0.5))
    responses: ByteBudget = field(default_factory=lambda: ByteBudget(RESPONSES, share=0.25))


MEMORY = web.AppKey("MEMORY", HttpMemory)
CALLER = web.RequestKey("CALLER", str)
"""The client's name, once it is known."""
_BODY = web.RequestKey("BODY", Hold)
_VALUE = web.RequestKey("VALUE", Hold)
_RESPONSE = web.RequestKey("RESPONSE", Hold)
_COPIES = 4  # of a body's text: as read, as parsed, as stored, as fingerprinted
_VALUE_BYTES = 80  # in memory of a small value or key; in a body it can have two bytes


def caller_of(request: web.BaseRequest) -> str:
    """Return by whom memory is held: the client, or the address that a request comes from."""
    return request.get(CALLER) or client_network(request.remote)


async def receive(request: web.Request, seconds: float) -> bytes:
    """Return a request's whole body within that time; it is counted until the request has been handled.

    Raises `TimeoutError`, `HTTPRequestEntityTooLarge`, and `Problem` (503) if it had to make room for others.
    """
    evicted, body = False, bytearray()
    async with asyncio.timeout(seconds) as deadline:

        def evict() -> None:
            nonlocal evicted
            evicted = True
            deadline.reschedule(0.0)

        hold = request[_BODY] = request.app[MEMORY].bodies.hold(caller_of(request), evict)
        try:
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > request.client_max_size:
                    raise web.HTTPRequestEntityTooLarge(request.client_max_size, len(body))
                hold.grow(len(chunk))
        except asyncio.CancelledError:
            if evicted:
                raise problems.plain(503, "too many bodies arrive at once", {"Retry-After": "1"}) from None
            raise
        hold.evict = None
    return bytes(body)


async def room_to_parse(request: web.Request, body: bytes) -> None:
    """Wait until a body may be parsed; its value is counted until the request has been handled."""
    values = request.app[MEMORY].values
    await values.room(caller_of(request))
    hold = request[_VALUE] = values.hold(caller_of(request))
    hold.grow(_COPIES * len(body) + _VALUE_BYTES * sum(body.count(mark) for mark in (b",", b":", b"[", b"{")))


def release(request: web.Request) -> None:
    """Count a request's body and its value no more."""
    for key in (_BODY, _VALUE):
        if (hold := request.get(key)) is not None:
            hold.release()


@web.middleware
async def release_body(request: web.Request, handler: problems.Handler) -> web.StreamResponse:
    """Count a body no more when its request has been handled."""
    try:
        return await handler(request)
    finally:
        release(request)


def held(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Return a response, counted from now on until it is sent."""
    hold = request[_RESPONSE] = request.app[MEMORY].responses.hold(caller_of(request))
    hold.grow(size_of(response))
    return response


def response_hold(request: web.BaseRequest, response: web.StreamResponse, responses: ByteBudget) -> Hold:
    """Return the hold of a response that is about to be sent."""
    hold = request.get(_RESPONSE)
    if hold is None:
        hold = responses.hold(caller_of(request))
        hold.grow(size_of(response))
    return hold


def size_of(response: web.StreamResponse) -> int:
    """Return how many bytes a response holds in memory."""
    body = response.body if isinstance(response, web.Response) else None
    return len(body) if isinstance(body, bytes | bytearray) else 0
