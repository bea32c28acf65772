"""Event streams that catch up with stored events."""

import asyncio
from typing import cast

from bridge.adapters.http.api.event_feed import EventFeed, StreamCursor
from bridge.adapters.http.auth import Client, Role
from bridge.ports.queries import Queries, StoredEvent


class EndlessStore:
    """Each page holds newer events of other clients; the bridge stops after a hundred pages."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.pages = 0

    async def stored_at(self, event_id: str | None = None) -> float:
        return 1e9 if event_id is None else 1.0

    async def find_events(self, since: float, limit: int) -> list[StoredEvent]:
        self.pages += 1
        if self.pages == 100:
            self.stopping.set()
        return [StoredEvent(f"e-{since + n}", since + 10 + n, "research", "client/other") for n in range(limit)]


async def test_a_stream_that_catches_up_ends_when_the_bridge_stops():
    """It kept reading events of other clients until the store was closed."""
    store = EndlessStore()
    client = Client("orders", b"", frozenset({Role.SUBMIT}))
    cursor = StreamCursor(cast("Queries", store), EventFeed(cast("Queries", store), 0.5), client)
    assert await cursor.seek("e-1")
    assert await cursor.next_events(store.stopping) == []
    assert 100 <= store.pages < 200
