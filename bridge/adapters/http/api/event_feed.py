"""Reading the store's events for the streams: once for all that are up to date, page by page for one that catches up.

A cursor moves with the store, also past events that its stream may not show: a stream without events of its own costs
no more than one with many. An event may be committed some time after it was stored, so the last seconds are always
read again.
"""

import asyncio
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import islice

from bridge.adapters.http.auth import Client
from bridge.core.delivery.model import Event
from bridge.core.errors import StoreUnavailable
from bridge.ports.queries import StoredEvent
from bridge.ports.store import Store

LOOKBACK = 5.0  # seconds; longer than a commit takes
PAGE = 1000  # entries that are read at once
RECENT = 20_000  # entries that are kept for all; beyond that, streams read for themselves
AT_ONCE = 8  # events in memory per stream


class EventFeed:
    """What was stored lately, read at most once in `interval` seconds however many streams ask."""

    def __init__(self, store: Store, interval: float) -> None:
        self._store = store
        self._interval = interval
        self._recent: list[StoredEvent] = []
        self._complete_since: float | None = None
        self._read_at = 0.0
        self._reading = asyncio.Lock()

    async def since(self, moment: float) -> list[StoredEvent]:
        """The first events stored since then; fewer than `PAGE` only if there are no more. Raises `StoreUnavailable`.

        Those of the last interval may be missing.
        """
        await self._refresh()
        if self._complete_since is None or moment < self._complete_since:
            return await self._store.find_events(moment, PAGE)
        first = bisect_left(self._recent, moment, key=lambda one: one.stored_at)
        return self._recent[first:]

    async def _refresh(self) -> None:
        clock = asyncio.get_running_loop().time
        async with self._reading:
            if self._complete_since is not None and clock() - self._read_at < self._interval:
                return
            newest = await self._store.stored_at() or 0.0
            known = self._recent[-1].stored_at if self._recent else newest
            await self._read_since(min(newest, known) - LOOKBACK)
            self._read_at = clock()

    async def _read_since(self, moment: float) -> None:
        found: list[StoredEvent] = []
        at = moment
        while True:
            page = await self._store.find_events(at, PAGE)
            known = {one.event_id for one in found if one.stored_at >= at}
            found += [one for one in page if one.event_id not in known]
            if len(page) < PAGE or len(found) > RECENT:
                break
            at = _after(page, at)
        if len(found) > RECENT:  # the newest are missing
            self._recent, self._complete_since = [], None
        else:
            self._recent, self._complete_since = found, moment


class Tail:
    """What of the store's events one stream has shown."""

    def __init__(self, store: Store, feed: EventFeed, client: Client) -> None:
        self._store = store
        self._feed = feed
        self._client = client
        self._cursor = 0.0
        self._seen: dict[str, float] = {}
        self._waiting = deque[StoredEvent]()

    async def begin(self, last: str | None) -> bool:
        """Begin after the event with the id `last`, else now; whether that event is known, or none was asked for.

        Raises `StoreUnavailable`.
        """
        if last and (at := await self._store.stored_at(last)) is not None:
            self._cursor, self._seen = at, {last: at}
            return True
        self._cursor = await self._store.stored_at() or 0.0
        since, page = self._cursor - LOOKBACK, list[StoredEvent]()
        while not self._seen or len(page) == PAGE:
            page = await self._store.find_events(since, PAGE)
            self._seen |= {one.event_id: one.stored_at for one in page}
            if not page:
                break
            since = _after(page, since)
        return not last

    async def more(self, stopping: asyncio.Event) -> list[Event]:
        """Return the next few events; none while there are none, the store is unavailable, or the bridge stops."""
        try:
            while not self._waiting and not stopping.is_set() and await self._look():
                pass  # the page held only what others may see
            some = [one.event_id for one in islice(self._waiting, AT_ONCE)]
            events = await self._store.load_events(some) if some else []
        except StoreUnavailable:
            return []
        # The last that fitted, and before it what was forgotten meanwhile; if none came, all of them were.
        done = some.index(events[-1].event_id) + 1 if events else len(some)
        for _ in range(done):
            self._waiting.popleft()
        return events

    async def _look(self) -> bool:
        """Read the first page of what follows that holds anything new; whether there was any."""
        since = self._cursor - LOOKBACK
        while True:
            page = await self._feed.since(since)
            new = [one for one in page if one.event_id not in self._seen]
            if new or len(page) < PAGE:
                break
            since = _after(page, since)
        if new:
            self._cursor = max(self._cursor, page[-1].stored_at)
            self._seen |= {one.event_id: one.stored_at for one in new}
            self._seen = {id_: at for id_, at in self._seen.items() if at >= self._cursor - LOOKBACK}
            self._waiting.extend(one for one in new if self._may_show(one))
        return bool(new)

    def _may_show(self, one: StoredEvent) -> bool:
        client = self._client
        return client.may_use(one.crew or "") and (client.sees_all or one.source == client.source)


def _after(page: Sequence[StoredEvent], since: float) -> float:
    """Where the next page begins."""
    return max(page[-1].stored_at, math.nextafter(since, math.inf))
