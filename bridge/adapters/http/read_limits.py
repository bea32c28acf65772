"""Requests that read large things from the store: few at once of each client, none while its responses pile up."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.auth import Client, ClientHandler
from bridge.adapters.http.memory import MEMORY, caller_of, held

AT_ONCE = 4  # of one client
LONGEST_WAIT = 20.0  # seconds


class Reads:
    """Bounds how many requests of one client read at the same time; the others of it wait."""

    def __init__(self) -> None:
        self._permits: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    def bounded(self, handler: ClientHandler) -> ClientHandler:
        """Wrap a handler; a request that waits for too long gets `503`. Its response counts until it is sent."""

        async def bounded(request: web.Request, client: Client) -> web.StreamResponse:
            async with self._permit(request):
                return held(request, await handler(request, client))

        return bounded

    @asynccontextmanager
    async def _permit(self, request: web.Request) -> AsyncIterator[None]:
        caller = caller_of(request)
        permit = self._permits[caller]
        try:
            async with asyncio.timeout(LONGEST_WAIT) as waiting, permit:
                await request.app[MEMORY].responses.room(caller)
                waiting.reschedule(None)
                yield
        except TimeoutError:
            if not waiting.expired():
                raise
            detail = "too many responses of this client are under way"
            raise problems.plain(503, detail, {"Retry-After": "5"}) from None
