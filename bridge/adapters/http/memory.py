"""Limit the memory of requests and responses: bodies while they arrive, parsed values, responses until they are sent.

Memory is counted per caller. When the limit is reached, an arriving body may be evicted in favor of others, a complete
body waits before it is parsed, and a response waits before it is read from the store.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from aiohttp import web

from bridge.adapters.byte_budget import BODY_BYTES, RESPONSE_BYTES, ByteBudget, Hold, values_budget
from bridge.adapters.http import problems
from bridge.adapters.http.headers import caller_address
from bridge.core.json import parsed_bytes


@dataclass(frozen=True, slots=True)
class HttpMemory:
    """The memory budgets that all HTTP servers share; RabbitMQ consumers share the one of `values`."""

    bodies: ByteBudget = field(default_factory=lambda: ByteBudget(BODY_BYTES))
    values: ByteBudget = field(default_factory=values_budget)
    responses: ByteBudget = field(default_factory=lambda: ByteBudget(RESPONSE_BYTES, share=0.25))


MEMORY = web.AppKey("MEMORY", HttpMemory)
CALLER = web.RequestKey("CALLER", str)
"""The client's name, once it is authenticated."""
MAX_WAIT = 10.0  # seconds that a body waits for room before older ones are evicted
_BODY = web.RequestKey("BODY", Hold)
_VALUE = web.RequestKey("VALUE", Hold)
_RESPONSE = web.RequestKey("RESPONSE", Hold)


def caller_of(request: web.BaseRequest) -> str:
    """Return the caller to whom memory is attributed: the client's name, or the address of the request."""
    return request.get(CALLER) or caller_address(request)


async def receive(request: web.Request, seconds: float) -> bytes:
    """Return a request's whole body; its memory is counted until the request has been handled.

    The body of an authenticated caller first waits for room. Without room, the oldest body of the caller with the most
    bytes is evicted, because bodies that never end would block all others.
    Raise `TimeoutError` after `seconds`, `HTTPRequestEntityTooLarge`, or `Problem` (503) if the body was evicted.
    """
    evicted, body = False, bytearray()
    await _reserve_content_length(request)
    async with asyncio.timeout(seconds) as deadline:

        def evict() -> None:
            nonlocal evicted
            if not evicted and not deadline.expired():  # until the task wakes up, its hold may be evicted again
                evicted = True
                deadline.reschedule(0.0)

        hold = request[_BODY]
        hold.evict = evict
        try:
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > request.client_max_size:
                    raise web.HTTPRequestEntityTooLarge(request.client_max_size, len(body))
                hold.grow(max(0, len(body) - hold.size))
                del chunk  # free its memory before waiting for the next one
        except asyncio.CancelledError:
            if evicted:
                raise problems.from_status(503, "too many bodies in flight; retry", {"Retry-After": "1"}) from None
            raise
        finally:
            hold.evict = None
    return bytes(body)


async def _reserve_content_length(request: web.Request) -> None:
    """Wait for room for the Content-Length of an authenticated caller's body, then hold it.

    For other callers, hold nothing yet: a header alone must not take room.
    """
    caller, bodies = caller_of(request), request.app[MEMORY].bodies
    hold = request[_BODY] = bodies.hold(caller)
    if CALLER in request and request.can_read_body:
        size = request.content_length or 1
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_WAIT):
                await bodies.wait_for_room(caller, size)
        hold.grow(size)


async def reserve_for_parsing(request: web.Request, body: bytes) -> None:
    """Wait until there is memory to parse a body; its value is counted until the request has been handled."""
    values = request.app[MEMORY].values
    await values.wait_for_room(caller_of(request))
    hold = request[_VALUE] = values.hold(caller_of(request))
    hold.grow(parsed_bytes(body))


def release(request: web.Request) -> None:
    """Release the memory of a request's body and of its parsed value."""
    for key in (_BODY, _VALUE):
        if (hold := request.get(key)) is not None:
            hold.release()


@web.middleware
async def release_body(request: web.Request, handler: problems.Handler) -> web.StreamResponse:
    """Release the memory of a body when its request has been handled."""
    try:
        return await handler(request)
    finally:
        release(request)


def hold_response(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Count a response's memory until it is sent, and return the response."""
    hold = request[_RESPONSE] = request.app[MEMORY].responses.hold(caller_of(request))
    hold.grow(size_of(response))
    return response


def response_hold(request: web.BaseRequest, response: web.StreamResponse, responses: ByteBudget, caller: str) -> Hold:
    """Return the hold of a response that is about to be sent, creating it if necessary."""
    hold = request.get(_RESPONSE)
    if hold is None:
        hold = responses.hold(caller)
        hold.grow(size_of(response))
    return hold


def size_of(response: web.StreamResponse) -> int:
    """Return how many bytes of memory a response's body takes."""
    body = response.body if isinstance(response, web.Response) else None
    return len(body) if isinstance(body, bytes | bytearray) else 0
