"""The API that tells which crews there are, whether they can be used, and what they take."""

from dataclasses import asdict
from typing import Any

from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import respond
from bridge.core.errors import RequestRefused
from bridge.ports.crew_api import CrewInfo, InputsOf, ListCrews


class CrewsApi:
    """Crews over HTTP; a crew that the client may not use does not exist for it."""

    def __init__(self, list_crews: ListCrews, crew_inputs: InputsOf, clients: Clients) -> None:
        self._list_crews = list_crews
        self._crew_inputs = crew_inputs
        self._clients = clients

    def routes(self) -> list[web.RouteDef]:
        """Every route, each with who may use it."""
        anyone = self._clients.only(Role.SUBMIT, Role.READ)
        return [
            web.get("/v1/crews", anyone(self._list)),
            web.get("/v1/crews/{crew}/inputs", anyone(self._inputs)),
        ]

    async def _list(self, _: web.Request, client: Client) -> web.Response:
        known = [crew for crew in self._list_crews() if client.may_use(crew.name)]
        return respond({"crews": [_told(crew) for crew in known]})

    async def _inputs(self, http: web.Request, client: Client) -> web.Response:
        name = http.match_info["crew"]
        if not any(crew.name == name and client.may_use(name) for crew in self._list_crews()):
            raise RequestRefused("unknown_crew", "there is no such crew here")
        inputs = await self._crew_inputs(name)
        if inputs is None:
            raise problems.plain(503, "the crew does not tell its inputs now", {"Retry-After": "10"})
        return respond({"crew": name, "inputs": list(inputs)})


def _told(crew: CrewInfo) -> dict[str, Any]:
    run_time_stats = None if crew.run_times is None else asdict(crew.run_times)
    return {"name": crew.name, "kind": crew.kind, "paused": crew.paused, "run_times": run_time_stats}
