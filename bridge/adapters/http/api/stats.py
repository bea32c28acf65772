"""Statistics: how many runs ended in each minute of the last hours, by crew and final state."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

from bridge.adapters.http import query
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import respond
from bridge.core.delivery.events import timestamp
from bridge.ports.lifecycle import Clock
from bridge.ports.queries import Queries, RunEnds

MINUTE = 60.0  # seconds
MAX_MINUTES = 24 * 60
DEFAULT_MINUTES = 60
OPEN_MINUTES = 2  # the newest, in which ends may still be stored


class StatsApi:
    """Statistics over HTTP. A minute that is over is counted once for all callers."""

    def __init__(self, store: Queries, clock: Clock, clients: Clients) -> None:
        self._store = store
        self._clock = clock
        self._clients = clients
        self._counted: dict[float, RunEnds] = {}
        self._counting = asyncio.Lock()

    def routes(self) -> list[web.RouteDef]:
        """Return the route with its required role."""
        return [web.get("/v1/stats", self._clients.require(Role.READ)(self._show))]

    async def _show(self, request: web.Request, client: Client) -> web.Response:
        given = query.timestamp("since", query.read_parameters(request, {"since"}).get("since"))
        last = self._clock() // MINUTE
        first = last - DEFAULT_MINUTES + 1 if given is None else max(given // MINUTE, last - MAX_MINUTES + 1)
        minutes = [MINUTE * minute for minute in range(int(first), int(last) + 1)]
        async with self._counting:
            ends = await self._count(minutes)
        return respond({"since": timestamp(MINUTE * first), "minutes": _rows(ends, client)})

    async def _count(self, minutes: list[float]) -> Mapping[float, RunEnds]:
        """Return the ends in each minute, of which only those not counted before, or still open, are read."""
        found = await self._store.run_ends([minute for minute in minutes if minute not in self._counted])
        oldest = MINUTE * (self._clock() // MINUTE - MAX_MINUTES)
        ends = {minute: found.get(minute) or self._counted.get(minute, {}) for minute in minutes}
        closed = {minute: found[minute] for minute in minutes[:-OPEN_MINUTES] if minute in found}
        self._counted = {minute: each for minute, each in (self._counted | closed).items() if minute >= oldest}
        return ends


def _rows(ends: Mapping[float, RunEnds], client: Client) -> list[dict[str, object]]:
    return [
        {"minute": timestamp(minute), "crew": crew, "state": state, "count": count}
        for minute, counts in ends.items()
        for (crew, state), count in counts.items()
        if client.may_use(crew)
    ]
