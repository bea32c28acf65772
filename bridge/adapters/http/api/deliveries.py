"""The API for deliveries: list them, look at one with its attempts, have some sent again."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from bridge.adapters.http import query, views
from bridge.adapters.http.api.command_body import read_command_body
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import respond
from bridge.adapters.http.problems import parameter
from bridge.adapters.http.read_limits import Reads
from bridge.core import fields
from bridge.core.delivery.model import Delivery, DeliveryState
from bridge.core.errors import RequestRefused
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.queries import DeliveryFilter
from bridge.ports.store import Store

_LIST_PARAMETERS = frozenset({"state", "crew", "run_id", "limit", "cursor"})
_REDELIVER_FIELDS = frozenset({"state", "crew", "since", "until"})
_DELIVERY_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")


class DeliveriesApi:
    """Deliveries over HTTP, for operators. One of a crew that the client may not use does not exist for it.

    `wake`: there may be something to deliver.
    """

    def __init__(self, store: Store, clients: Clients, clock: Clock, wake: Notify) -> None:
        self._store = store
        self._clients = clients
        self._clock = clock
        self._wake = wake
        self._reads = Reads()

    def routes(self) -> list[web.RouteDef]:
        """Every route, each with who may use it."""
        look, apply_command = self._clients.only(Role.OPERATE), self._clients.commands(Role.OPERATE)
        return [
            web.get("/v1/deliveries", look(self._reads.bounded(self._list))),
            web.get("/v1/deliveries/{id}", look(self._show)),
            web.post("/v1/deliveries/{id}/redeliver", apply_command(self._redeliver_one)),
            web.post("/v1/deliveries/redeliver", apply_command(self._redeliver_many)),
        ]

    async def _list(self, http: web.Request, client: Client) -> web.Response:
        asked = query.parameters(http, _LIST_PARAMETERS)
        limit = query.limit(asked.get("limit"))
        which = DeliveryFilter(
            state=query.choice("state", DeliveryState, asked.get("state")),
            crew=query.crew(asked.get("crew")),
            crews=client.crews,
            run_id=_id("run_id", views.RUN_ID, asked.get("run_id")),
            before=_id("cursor", _DELIVERY_ID, asked.get("cursor")),
            limit=limit + 1,  # one more tells whether there is a next page
        )
        found = await self._store.find_deliveries(which)
        next_cursor = found[limit - 1].delivery_id if len(found) > limit else None
        return respond({"deliveries": [views.delivery(one) for one in found[:limit]], "next_cursor": next_cursor})

    async def _show(self, http: web.Request, client: Client) -> web.Response:
        return await self._answer(await self._visible(http, client))

    async def _redeliver_one(self, http: web.Request, client: Client) -> web.Response:
        fields.only(await read_command_body(http))
        one = await self._visible(http, client)
        await self._store.redeliver(DeliveryFilter(one.delivery_id, crews=client.crews), self._clock())
        self._wake()
        return await self._answer(await self._visible(http, client))

    async def _redeliver_many(self, http: web.Request, client: Client) -> web.Response:
        which = _read_filter(await read_command_body(http), client)
        count = await self._store.redeliver(which, self._clock())
        self._wake()
        return respond({"redelivered": count})

    async def _visible(self, http: web.Request, client: Client) -> Delivery:
        wanted = http.match_info["id"]
        if _DELIVERY_ID.fullmatch(wanted):
            for one in await self._store.find_deliveries(DeliveryFilter(wanted, crews=client.crews)):
                return one
        raise RequestRefused("unknown_delivery", "no delivery has this id")

    async def _answer(self, one: Delivery) -> web.Response:
        history = [views.attempt(each) for each in await self._store.attempts_for_delivery(one.delivery_id)]
        return respond({**views.delivery(one), "history": history})


def _id(name: str, shape: re.Pattern[str], text: str | None) -> str | None:
    if text is not None and not shape.fullmatch(text):
        raise parameter(name, "is not an id that the bridge gives")
    return text


def _read_filter(body: Mapping[str, Any], client: Client) -> DeliveryFilter:
    """Which deliveries to send again: dead ones, unless `state` says otherwise."""
    fields.only(body, _REDELIVER_FIELDS)
    state, crew = body.get("state"), body.get("crew")
    if state is not None and state not in list(DeliveryState):
        raise RequestRefused("invalid_request", f"must be one of {', '.join(DeliveryState)}", "state")
    if crew is not None and not isinstance(crew, str):
        raise RequestRefused("invalid_request", "must be the name of a crew", "crew")
    since, until = (_moment(name, body.get(name)) for name in ("since", "until"))
    state = DeliveryState.DEAD if state is None else DeliveryState(state)
    return DeliveryFilter(state=state, crew=crew, crews=client.crews, since=since, until=until)


def _moment(name: str, text: object) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
        if moment is not None and moment.tzinfo is not None:
            return moment.timestamp()
    except (ValueError, OverflowError):
        pass
    raise RequestRefused("invalid_request", "must be a time such as 2026-11-24T08:00:00Z", name)
