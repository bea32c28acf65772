"""Read the store's events for streams: one shared read for up-to-date streams, paged reads for one that catches up.

A cursor advances past events that its stream may not show, so a stream without visible events costs no more than one
with many. An event may be committed some time after its timestamp, so the last seconds are always read again.
"""

import asyncio
import math
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import islice

from bridge.adapters.http.auth import Client
from bridge.core.delivery.model import Event
from bridge.core.errors import StoreUnavailable
from bridge.ports.queries import Queries, StoredEvent

LOOKBACK = 5.0  # seconds; longer than a commit takes
PAGE = 1000  # entries per read
MAX_RECENT = 20_000  # entries in the shared cache; beyond that, each stream reads the store itself
EVENTS_PER_READ = 8  # events in memory per stream
_TIME = re.compile(r"at-(\d{1,12})")


class EventFeed:
    """The recently stored events, read at most once in `interval` seconds regardless of the number of streams."""

    def __init__(self, store: Queries, interval: float) -> None:
        self._store = store
        self._interval = interval
        self._recent: list[StoredEvent] = []
        self._complete_since: float | None = None
        self._read_at = 0.0
        self._reading = asyncio.Lock()

    async def events_since(self, timestamp: float) -> list[StoredEvent]:
        """Return the first events stored since `timestamp`; fewer than `PAGE` only if there are no more.

        Events of the last interval may be missing. Raise `StoreUnavailable`.
        """
        await self._refresh()
        if self._complete_since is None or timestamp < self._complete_since:
            return await self._store.find_events(timestamp, PAGE)
        first = bisect_left(self._recent, timestamp, key=lambda event: event.stored_at)
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

    async def _read_since(self, timestamp: float) -> None:
        found: list[StoredEvent] = []
        at = timestamp
        while True:
            page = await self._store.find_events(at, PAGE)
            known = {event.event_id for event in found if event.stored_at >= at}
            found += [event for event in page if event.event_id not in known]
            if len(page) < PAGE or len(found) > MAX_RECENT:
                break
            at = _next_page_start(page, at)
        if len(found) > MAX_RECENT:  # the loop stopped before the newest
            self._recent, self._complete_since = [], None
        else:
            self._recent, self._complete_since = found, timestamp


class StreamCursor:
    """The position of one stream in the store's events, and the events it has sent within the lookback.

    It is limited to what the client may see, to the crew, and to runs whose ids begin with `run_id`.
    """

    def __init__(
        self, store: Queries, feed: EventFeed, client: Client, crew: str | None = None, run_id: str = ""
    ) -> None:
        self._store = store
        self._feed = feed
        self._client = client
        self._crew = crew
        self._run_id = run_id
        self._cursor = 0.0
        self._seen: dict[str, float] = {}
        self._waiting = deque[StoredEvent]()

    async def seek(self, last: str | None) -> bool:
        """Position after the event with the id `last`, or after the newest; `at-` and seconds since the epoch: a time.

        Return False if that event is unknown. Raise `StoreUnavailable`.
        """
        if last and (at := await self._store.stored_at(last)) is not None:
            self._cursor, self._seen = at, {last: at}
            return True
        newest = await self._store.stored_at() or 0.0
        if last and (asked := _TIME.fullmatch(last)) is not None:
            self._cursor = min(float(asked[1]), newest)
            return True
        self._cursor = newest
        since, page = self._cursor - LOOKBACK, list[StoredEvent]()
        while not self._seen or len(page) == PAGE:
            page = await self._store.find_events(since, PAGE)
            self._seen |= {event.event_id: event.stored_at for event in page}
            if not page:
                break
            since = _next_page_start(page, since)
        return not last

    async def next_events(self, stopping: asyncio.Event) -> list[Event]:
        """Return the next few events; none if there are none, storage is unavailable, or the bridge stops."""
        try:
            while not self._waiting and not stopping.is_set() and await self._read_new():
                pass  # every event of the page belongs to other clients
            batch = [event.event_id for event in islice(self._waiting, EVENTS_PER_READ)]
            events = await self._store.load_events(batch) if batch else []
        except StoreUnavailable:
            return []
        # `load_events` stops at its size limit and skips events that were deleted in the meantime.
        done = batch.index(events[-1].event_id) + 1 if events else len(batch)
        for _ in range(done):
            self._waiting.popleft()
        return events

    async def _read_new(self) -> bool:
        """Read the next page that contains new events; return whether there was one."""
        since = self._cursor - LOOKBACK
        while True:
            page = await self._feed.events_since(since)
            new = [event for event in page if event.event_id not in self._seen]
            if new or len(page) < PAGE:
                break
            since = _next_page_start(page, since)
        if new:
            self._cursor = max(self._cursor, page[-1].stored_at)
            self._seen |= {event.event_id: event.stored_at for event in new}
            self._seen = {id_: at for id_, at in self._seen.items() if at >= self._cursor - LOOKBACK}
            self._waiting.extend(event for event in new if self._may_show(event))
        return bool(new)

    def _may_show(self, event: StoredEvent) -> bool:
        client = self._client
        if not event.event_id.startswith(self._run_id) or self._crew not in (None, event.crew):
            return False
        return client.may_use(event.crew or "") and (client.sees_all or event.source == client.source)


def _next_page_start(page: Sequence[StoredEvent], since: float) -> float:
    """Return the timestamp at which the next page begins."""
    return max(page[-1].stored_at, math.nextafter(since, math.inf))
