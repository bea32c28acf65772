"""Long polling: wait for a run to end while the client keeps its request open.

The store is polled, because another process may be tracking the run.
"""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from bridge.core.errors import StoreUnavailable
from bridge.core.http.limits import Slots
from bridge.core.runs.model import Run
from bridge.ports.queries import Queries

SHUTTING_DOWN = web.AppKey("SHUTTING_DOWN", asyncio.Event)
"""Set when the server stops; requests that wait are then answered."""


@dataclass(frozen=True, slots=True)
class LongPollOptions:
    """Seconds between two reads of the store, and how many requests may wait; others are answered immediately."""

    interval: float = 0.25
    slots: int = 200


class LongPoll:
    """The requests that wait for the end of a run."""

    def __init__(self, store: Queries, options: LongPollOptions) -> None:
        self._store = store
        self._options = options
        self._slots = Slots(options.slots)

    async def wait_until_final(
        self, run: Run, seconds: float, request: web.Request, client: str, *, fairly: bool
    ) -> Run | None:
        """Return the run once it has ended, or as last seen on timeout, disconnect, or shutdown.

        Return None if this client, or all clients together, have too many requests waiting. `fairly`: see `Slots`.
        """
        if not self._slots.take(client, fairly=fairly):
            return None
        try:
            return await self._poll_until_final(run, asyncio.get_running_loop().time() + seconds, request)
        finally:
            self._slots.release(client)

    async def _poll_until_final(self, run: Run, until: float, request: web.Request) -> Run:
        # No timeout around the loop: it could cancel a read of the store midway, which costs a connection.
        clock, stopping = asyncio.get_running_loop().time, request.app[SHUTTING_DOWN]
        while not run.final and request.transport is not None and (left := until - clock()) > 0:
            if await is_set_within(stopping, min(left, self._options.interval)):
                break
            run = await self._peek(run)
        return run

    async def _peek(self, run: Run) -> Run:
        try:
            return await self._store.peek(run.run_id) or run
        except StoreUnavailable:
            return run  # the run is stored, so the response must not be an error


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait up to `seconds` for the event; return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
