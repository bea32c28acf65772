"""Wait for a run to end while its client holds the line.

The store is looked at again and again, because the process that follows the run may be another one.
"""

import asyncio
from dataclasses import dataclass

from aiohttp import web

from bridge.core.errors import StoreUnavailable
from bridge.core.http.slots import Slots
from bridge.core.runs.model import Run
from bridge.ports.store import Store

STOPPING = web.AppKey("STOPPING", asyncio.Event)
"""Set when the server stops; whoever waits for long answers then."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds between two looks, and how many requests may wait at once; beyond that they are answered at once."""

    interval: float = 0.25
    slots: int = 200


class Waiting:
    """The requests that wait."""

    def __init__(self, store: Store, patience: Patience) -> None:
        self._store = store
        self._patience = patience
        self._slots = Slots(patience.slots)

    async def until_final(
        self, run: Run, seconds: float, request: web.Request, client: str, *, fairly: bool
    ) -> Run | None:
        """Return the run when it has ended, or as last seen when time is up, the client is gone or the server stops.

        None if this client, or all together, have too many requests waiting; see `Slots` about `fairly`.
        """
        if not self._slots.take(client, fairly=fairly):
            return None
        try:
            return await self._poll_until_final(run, asyncio.get_running_loop().time() + seconds, request)
        finally:
            self._slots.release(client)

    async def _poll_until_final(self, run: Run, until: float, request: web.Request) -> Run:
        # No timeout around all of it: it would cancel a read of the store midway, and cost its connection.
        clock, stopping = asyncio.get_running_loop().time, request.app[STOPPING]
        while not run.final and request.transport is not None and (left := until - clock()) > 0:
            if await happens(stopping, min(left, self._patience.interval)):
                break
            run = await self._look(run)
        return run

    async def _look(self, run: Run) -> Run:
        try:
            return await self._store.peek(run.run_id) or run
        except StoreUnavailable:
            return run  # the run is stored already: what remains is to say so


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within that time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
