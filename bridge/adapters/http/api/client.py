"""The client itself: its name, roles, and crews, so that a page or program offers only what it may do."""

from aiohttp import web

from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import respond


class ClientApi:
    """The calling client over HTTP; any role suffices."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def routes(self) -> list[web.RouteDef]:
        """Return the route with its required roles."""
        return [web.get("/v1/client", self._clients.require(*Role)(self._show))]

    async def _show(self, _: web.Request, client: Client) -> web.Response:
        roles = [role for role in Role if client.may(role)]
        return respond(
            {"name": client.name, "roles": roles, "crews": None if client.crews is None else sorted(client.crews)}
        )
