"""The stream of events: server-sent events of all runs that a client may see.

Streams read the store, so they show what any process on it does, and each holds a few events in memory at most.
"""

import asyncio
import re
from dataclasses import dataclass

from aiohttp import hdrs, web

from bridge.adapters.http import problems, query
from bridge.adapters.http.api.event_feed import EventFeed, Tail
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.long_poll import STOPPING, happens
from bridge.core.delivery.model import Event
from bridge.core.http.slots import Slots
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.store import Store

LAST_EVENT_ID = "Last-Event-ID"

_EVENT_ID = re.compile(r"[0-9A-Za-z._-]{1,128}")
_HEADERS = {hdrs.CONTENT_TYPE: "text/event-stream", hdrs.CACHE_CONTROL: "no-store", "X-Accel-Buffering": "no"}
_GAP = b"event: stream.gap\ndata: {}\n\n"


@dataclass(frozen=True, slots=True)
class Streaming:
    """How many streams there may be at once, and how long they last; all else in seconds.

    `interval` is between two looks. After `quiet` an empty line shows that the stream lives. `slow`: how long a client
    may read nothing. After `longest` it has to come again, with a token that is still good.
    """

    slots: int = 100
    interval: float = 0.5
    quiet: float = 15.0
    slow: float = 10.0
    longest: float = 900.0


class EventsApi:
    """Events over HTTP, as they happen."""

    def __init__(self, store: Store, clients: Clients, streaming: Streaming | None = None) -> None:
        self._store = store
        self._clients = clients
        self._streaming = streaming or Streaming()
        self._open = Slots(self._streaming.slots)
        self._feed = EventFeed(store, self._streaming.interval)

    def routes(self) -> list[web.RouteDef]:
        """The one route, and who may use it."""
        handler = self._clients.only(Role.SUBMIT, Role.READ)(self._stream)
        return [web.get("/v1/events", handler, allow_head=False)]

    async def _stream(self, http: web.Request, client: Client) -> web.StreamResponse:
        query.parameters(http, ())
        if not self._open.take(client.name, fairly=not self._clients.anonymous):
            raise problems.too_often("too many streams are open", self._streaming.quiet)
        try:
            return await self._tell(http, client)
        finally:
            self._open.release(client.name)

    async def _tell(self, http: web.Request, client: Client) -> web.StreamResponse:
        tail = Tail(self._store, self._feed, client)
        last = http.headers.get(LAST_EVENT_ID)
        readable = last if last and _EVENT_ID.fullmatch(last) else None
        known = await tail.begin(readable) and readable == (last or None)
        response = web.StreamResponse(headers=_HEADERS)
        await response.prepare(http)
        try:
            await self._send(response, b"retry: 2000\n\n" + (b"" if known else _GAP))
            await self._track(http, response, tail)
        except Exception as error:  # noqa: BLE001 - too late for an error response: it would land inside the stream
            if not isinstance(error, TimeoutError | ConnectionError):  # it reads nothing, or is gone
                http.app[problems.REPORT](Quarantined.REQUEST, error, method=http.method, route="/v1/events")
            if http.transport is not None:
                http.transport.abort()
        return response

    async def _track(self, http: web.Request, response: web.StreamResponse, tail: Tail) -> None:
        clock, stopping = asyncio.get_running_loop().time, http.app[STOPPING]
        over, spoke = clock() + self._streaming.longest, clock()
        while clock() < over and not stopping.is_set() and http.transport is not None:
            if found := await tail.more(stopping):
                for event in found:
                    await self._send(response, _line(event))
                spoke = clock()
                continue
            if clock() - spoke >= self._streaming.quiet:
                await self._send(response, b":\n\n")
                spoke = clock()
            await happens(stopping, self._streaming.interval)

    async def _send(self, response: web.StreamResponse, part: bytes) -> None:
        async with asyncio.timeout(self._streaming.slow):
            await response.write(part)


def _line(event: Event) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.event_id.encode(), event.type.encode(), event.body)
