"""Deliveries: list them, show one with its attempts, redeliver one or many, discard one."""

import re
from collections.abc import Mapping

from aiohttp import web

from bridge.adapters.http import query, views
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import read_command_body, respond
from bridge.adapters.http.problems import invalid_parameter
from bridge.adapters.http.read_limits import ReadLimit
from bridge.adapters.http.selection import read_selection, respond_with_counts
from bridge.core.delivery.model import Delivery, DeliveryState
from bridge.core.errors import RequestRefused
from bridge.core.json import check_members
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.queries import DeliveryFilter, Queries

_LIST_PARAMETERS = frozenset({"state", "crew", "run_id", "limit", "cursor"})
_REDELIVER_FILTERS = frozenset({"state", "crew", "receiver", "since", "until"})
_DELIVERY_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")


class DeliveriesApi:
    """Deliveries over HTTP, for operators. One of a crew that the client may not use is reported as unknown.

    `notify_deliveries` signals that there may be something to deliver.
    """

    def __init__(self, store: Queries, clients: Clients, clock: Clock, notify_deliveries: Notify) -> None:
        self._store = store
        self._clients = clients
        self._clock = clock
        self._notify_deliveries = notify_deliveries
        self._read_limit = ReadLimit()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, each with its required role."""
        read, apply_command = self._clients.require(Role.OPERATE), self._clients.require_audited(Role.OPERATE)
        return [
            web.get("/v1/deliveries", read(self._read_limit.bounded(self._list))),
            web.get("/v1/deliveries/{id}", read(self._show)),
            web.post("/v1/deliveries/{id}/redeliver", apply_command(self._redeliver_one)),
            web.post("/v1/deliveries/{id}/discard", apply_command(self._discard)),
            web.post("/v1/deliveries/redeliver", apply_command(self._redeliver_many)),
        ]

    async def _list(self, request: web.Request, client: Client) -> web.Response:
        parameters = query.read_parameters(request, _LIST_PARAMETERS)
        limit = query.limit(parameters.get("limit"))
        if (run_id := parameters.get("run_id")) is not None:
            run_id = await views.complete_run_id(self._store, client, run_id)
        filter_ = DeliveryFilter(
            state=query.choice("state", DeliveryState, parameters.get("state")),
            crew=query.crew(parameters.get("crew")),
            crews=client.crews,
            run_id=run_id,
            before=_cursor(parameters.get("cursor")),
            limit=limit + 1,  # one more shows whether there is a next page
        )
        found = await self._store.find_deliveries(filter_)
        next_cursor = found[limit - 1].delivery_id if len(found) > limit else None
        return respond(
            {"deliveries": [views.delivery(delivery) for delivery in found[:limit]], "next_cursor": next_cursor}
        )

    async def _show(self, request: web.Request, client: Client) -> web.Response:
        return await self._respond(await self._load_visible(request, client))

    async def _redeliver_one(self, request: web.Request, client: Client) -> web.Response:
        check_members(await read_command_body(request))
        delivery = await self._load_visible(request, client)
        await self._store.redeliver(DeliveryFilter(delivery.delivery_id, crews=client.crews), self._clock())
        self._notify_deliveries()
        return await self._respond(await self._load_visible(request, client))

    async def _discard(self, request: web.Request, client: Client) -> web.Response:
        check_members(await read_command_body(request))
        await self._store.discard((await self._load_visible(request, client)).delivery_id, client.source)
        delivery = await self._load_visible(request, client)
        if delivery.state is DeliveryState.PENDING:
            raise RequestRefused("not_discarded", "an attempt is in progress; retry in a moment")
        if delivery.state is DeliveryState.DELIVERED:
            raise RequestRefused("not_discarded", "the event has been delivered")
        return await self._respond(delivery)

    async def _redeliver_many(self, request: web.Request, client: Client) -> web.Response:
        selection = await read_selection(request, _REDELIVER_FILTERS)
        filter_ = _filter(selection.filter_, client)
        if selection.dry_run:
            return respond_with_counts(request, await self._store.count_redeliverable(filter_), 0)
        redelivered = await self._store.redeliver(filter_, self._clock())
        self._notify_deliveries()
        return respond_with_counts(request, redelivered, redelivered)

    async def _load_visible(self, request: web.Request, client: Client) -> Delivery:
        delivery_id = request.match_info["id"]
        if _DELIVERY_ID.fullmatch(delivery_id):
            for delivery in await self._store.find_deliveries(DeliveryFilter(delivery_id, crews=client.crews)):
                return delivery
        raise RequestRefused("unknown_delivery", "no delivery with this id")

    async def _respond(self, one: Delivery) -> web.Response:
        history = [views.attempt(each) for each in await self._store.attempts_for_delivery(one.delivery_id)]
        return respond({**views.delivery(one), "history": history})


def _cursor(text: str | None) -> str | None:
    if text is not None and not _DELIVERY_ID.fullmatch(text):
        raise invalid_parameter("cursor", "must be the next_cursor of a previous page")
    return text


def _filter(given: Mapping[str, str], client: Client) -> DeliveryFilter:
    """Return which deliveries to send again: dead ones, unless `state` names another state."""
    return DeliveryFilter(
        state=query.choice("state", DeliveryState, given.get("state", DeliveryState.DEAD)),
        crew=query.crew(given.get("crew")),
        crews=client.crews,
        receiver=query.text("receiver", given.get("receiver")),
        since=query.timestamp("since", given.get("since")),
        until=query.timestamp("until", given.get("until")),
    )
