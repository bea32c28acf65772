"""Server-sent events: stream the events of all runs that a client may see.

Streams read the store, so they include the events of all processes. Each holds at most a few events in memory.
"""

import asyncio
import re
from dataclasses import dataclass

from aiohttp import hdrs, web

from bridge.adapters.http import problems, query, views
from bridge.adapters.http.api.event_feed import EventFeed, StreamCursor
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.connection import SERVER
from bridge.adapters.http.long_poll import SHUTTING_DOWN, is_set_within
from bridge.core.delivery.model import Event
from bridge.core.http.limits import Slots
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.queries import Queries

LAST_EVENT_ID = "Last-Event-ID"

_EVENT_ID = re.compile(r"[0-9A-Za-z._-]{1,128}")
_HEADERS = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-store",
    hdrs.SERVER: SERVER,  # set for other responses when they are sent as a whole
    "X-Accel-Buffering": "no",
}
_GAP = b"event: stream.gap\ndata: {}\n\n"


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """`slots` limits concurrent streams; all other values are in seconds.

    `poll_interval`: between two reads of the store. `keepalive`: without events, a comment line is sent this often.
    `write_timeout`: how long a client may read nothing. `max_duration`: the stream then ends, and the client has to
    reconnect with a token that is still valid.
    """

    slots: int = 100
    poll_interval: float = 0.5
    keepalive: float = 15.0
    write_timeout: float = 10.0
    max_duration: float = 900.0


class EventsApi:
    """The event stream over HTTP."""

    def __init__(self, store: Queries, clients: Clients, options: StreamOptions | None = None) -> None:
        self._store = store
        self._clients = clients
        self._options = options or StreamOptions()
        self._open = Slots(self._options.slots)
        self._feed = EventFeed(store, self._options.poll_interval)

    def routes(self) -> list[web.RouteDef]:
        """Return the route with its required roles."""
        handler = self._clients.require(Role.SUBMIT, Role.READ)(self._stream)
        return [web.get("/v1/events", handler, allow_head=False)]

    async def _stream(self, request: web.Request, client: Client) -> web.StreamResponse:
        asked = query.read_parameters(request, {"crew", "run_id"})
        crew, run_id = query.crew(asked.get("crew")), asked.get("run_id")
        if run_id is not None and not views.RUN_ID.fullmatch(run_id):
            raise problems.invalid_parameter("run_id", "must be the id of a run")
        cursor = StreamCursor(self._store, self._feed, client, crew, run_id or "")
        if not self._open.take(client.name, fairly=not self._clients.anonymous):
            raise problems.too_many_requests("too many streams are open", self._options.keepalive)
        try:
            return await self._open_stream(request, cursor)
        finally:
            self._open.release(client.name)

    async def _open_stream(self, request: web.Request, cursor: StreamCursor) -> web.StreamResponse:
        last = request.headers.get(LAST_EVENT_ID)
        readable = last if last and _EVENT_ID.fullmatch(last) else None
        known = await cursor.seek(readable) and readable == (last or None)
        response = web.StreamResponse(headers=_HEADERS)
        try:
            await response.prepare(request)
            await self._send(response, b"retry: 2000\n\n" + (b"" if known else _GAP))
            await self._send_events(request, response, cursor)
        except Exception as error:  # noqa: BLE001 - an error response would appear inside the stream
            if not isinstance(error, TimeoutError | ConnectionError):  # the client does not read, or disconnected
                request.app[problems.REPORT](Quarantined.REQUEST, error, method=request.method, route="/v1/events")
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _send_events(self, request: web.Request, response: web.StreamResponse, cursor: StreamCursor) -> None:
        clock, stopping = asyncio.get_running_loop().time, request.app[SHUTTING_DOWN]
        ends_at, sent_at = clock() + self._options.max_duration, clock()
        while clock() < ends_at and not stopping.is_set() and request.transport is not None:
            if found := await cursor.next_events(stopping):
                for event in found:
                    await self._send(response, _encode(event))
                sent_at = clock()
                continue
            if clock() - sent_at >= self._options.keepalive:
                await self._send(response, b":\n\n")
                sent_at = clock()
            await is_set_within(stopping, self._options.poll_interval)

    async def _send(self, response: web.StreamResponse, part: bytes) -> None:
        async with asyncio.timeout(self._options.write_timeout):
            await response.write(part)


def _encode(event: Event) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.event_id.encode(), event.type.encode(), event.body)
