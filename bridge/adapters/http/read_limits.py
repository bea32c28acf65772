"""Limit expensive reads: a few concurrent ones per client, none while the client's responses accumulate unsent."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.auth import Client, ClientHandler
from bridge.adapters.http.memory import MEMORY, caller_of, hold_response

MAX_CONCURRENT = 4  # per client
MAX_WAIT = 20.0  # seconds


class ReadLimit:
    """The permits of each client for concurrent reads; further requests of the client wait."""

    def __init__(self) -> None:
        self._permits: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(MAX_CONCURRENT))

    def bounded(self, handler: ClientHandler) -> ClientHandler:
        """Wrap a handler: `503` after waiting too long; the response's memory is counted until it is sent."""

        async def bounded(request: web.Request, client: Client) -> web.StreamResponse:
            async with self._permit(request):
                return hold_response(request, await handler(request, client))

        return bounded

    @asynccontextmanager
    async def _permit(self, request: web.Request) -> AsyncIterator[None]:
        caller = caller_of(request)
        permit = self._permits[caller]
        try:
            async with asyncio.timeout(MAX_WAIT) as waiting, permit:
                await request.app[MEMORY].responses.wait_for_room(caller)
                waiting.reschedule(None)
                yield
        except TimeoutError:
            if not waiting.expired():
                raise
            detail = "this client has too many responses in flight; read them, then retry"
            raise problems.from_status(503, detail, {"Retry-After": "5"}) from None
