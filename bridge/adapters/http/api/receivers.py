"""Callback receivers: list those that fail or are paused, resume paused ones."""

from aiohttp import web

from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import read_command_body, respond
from bridge.core.delivery.events import timestamp
from bridge.core.errors import RequestRefused
from bridge.core.json import check_members, text_member
from bridge.ports.lifecycle import Notify
from bridge.ports.queries import Queries


class ReceiversApi:
    """Receivers over HTTP, for operators; only those that receive events of the client's crews.

    `notify_deliveries` signals that there may be something to deliver.
    """

    def __init__(self, store: Queries, clients: Clients, notify_deliveries: Notify) -> None:
        self._store = store
        self._clients = clients
        self._notify_deliveries = notify_deliveries

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, each with its required role."""
        return [
            web.get("/v1/receivers", self._clients.require(Role.OPERATE)(self._list)),
            web.post("/v1/receivers/resume", self._clients.require_audited(Role.OPERATE)(self._resume)),
        ]

    async def _list(self, _request: web.Request, client: Client) -> web.Response:
        found = await self._store.failing_receivers(client.crews)
        shown = [
            {
                "receiver": one.name,
                "failing_since": timestamp(one.failing_since),
                "paused_at": timestamp(one.paused_at),
            }
            for one in found
        ]
        return respond({"receivers": shown})

    async def _resume(self, request: web.Request, client: Client) -> web.Response:
        body = await read_command_body(request)
        check_members(body, {"receiver", "all"})
        name, every = text_member(body, "receiver"), body.get("all", False)
        if not isinstance(every, bool) or every == (name is not None):
            raise RequestRefused("invalid_request", "give either a receiver, or all: true", "receiver")
        resumed = await self._store.resume_receivers(name, client.crews)
        self._notify_deliveries()
        return respond({"resumed": resumed})
