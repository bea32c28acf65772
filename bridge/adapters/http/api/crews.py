"""Crews: list them with their availability and run times, show a crew's inputs."""

from dataclasses import asdict
from typing import Any

from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import respond
from bridge.core.errors import RequestRefused
from bridge.ports.crew_api import CrewInfo, ListCrews, ListInputs


class CrewsApi:
    """Crews over HTTP. A crew that the client may not use is reported as unknown."""

    def __init__(self, list_crews: ListCrews, crew_inputs: ListInputs, clients: Clients) -> None:
        self._list_crews = list_crews
        self._crew_inputs = crew_inputs
        self._clients = clients

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, each with its required role."""
        readers = self._clients.require(Role.SUBMIT, Role.READ)
        return [
            web.get("/v1/crews", readers(self._list)),
            web.get("/v1/crews/{crew}/inputs", readers(self._inputs)),
        ]

    async def _list(self, _: web.Request, client: Client) -> web.Response:
        known = [crew for crew in self._list_crews() if client.may_use(crew.name)]
        return respond({"crews": [_crew_view(crew) for crew in known]})

    async def _inputs(self, request: web.Request, client: Client) -> web.Response:
        name = request.match_info["crew"]
        if not any(crew.name == name and client.may_use(name) for crew in self._list_crews()):
            raise RequestRefused("unknown_crew", "no crew with this name")
        listed = await self._crew_inputs(name)
        if listed is None:
            raise problems.from_status(
                503, "the crew API did not return the crew's inputs; retry", {"Retry-After": "10"}
            )
        return respond({"crew": name, "inputs": list(listed.names), "required": list(listed.required or ())})


def _crew_view(crew: CrewInfo) -> dict[str, Any]:
    run_time_stats = None if crew.run_times is None else asdict(crew.run_times)
    return {"name": crew.name, "kind": crew.kind, "paused": crew.paused, "run_times": run_time_stats}
