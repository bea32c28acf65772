"""Crews: list them with their availability, limits, and run times; show one with its settings, or its inputs."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from bridge.adapters.http import problems, views
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import respond
from bridge.core.errors import RequestRefused
from bridge.core.runs.model import FINAL_STATES, State
from bridge.ports.crew_api import CrewInfo, ListCrews, ListInputs
from bridge.ports.queries import Queries, RunFilter, StoreFigures

RECENT_FAILURES = 10

_OPEN_STATES = [state.value for state in State if state not in FINAL_STATES]


class CrewsApi:
    """Crews over HTTP. A crew that the client may not use is reported as unknown.

    `figures` returns those of the store, at most a few seconds old; None while it is unavailable.
    """

    def __init__(
        self,
        list_crews: ListCrews,
        crew_inputs: ListInputs,
        figures: Callable[[], Awaitable[StoreFigures | None]],
        store: Queries,
        clients: Clients,
    ) -> None:
        self._list_crews = list_crews
        self._crew_inputs = crew_inputs
        self._figures = figures
        self._store = store
        self._clients = clients

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, each with its required role."""
        readers = self._clients.require(Role.SUBMIT, Role.READ)
        return [
            web.get("/v1/crews", readers(self._list)),
            web.get("/v1/crews/{crew}", readers(self._show)),
            web.get("/v1/crews/{crew}/inputs", readers(self._inputs)),
        ]

    async def _list(self, _: web.Request, client: Client) -> web.Response:
        figures = await self._figures_for(client)
        known = [crew for crew in self._list_crews() if client.may_use(crew.name)]
        return respond({"crews": [_crew_view(crew, figures) for crew in known]})

    async def _show(self, request: web.Request, client: Client) -> web.Response:
        crew = self._find(request, client)
        source = None if client.sees_all else client.source
        pages = [
            await self._store.find_runs(RunFilter(state, crew.name, client.crews, source, limit=RECENT_FAILURES))
            for state in (State.FAILED, State.TIMED_OUT)
        ]
        failures = sorted((run for page in pages for run in page.items), key=lambda run: run.run_id, reverse=True)
        return respond(
            {
                **_crew_view(crew, await self._figures_for(client)),
                "settings": crew.settings,
                "recent_failures": [views.run_summary(run) for run in failures[:RECENT_FAILURES]],
            }
        )

    async def _inputs(self, request: web.Request, client: Client) -> web.Response:
        name = self._find(request, client).name
        listed = await self._crew_inputs(name)
        if listed is None:
            raise problems.from_status(
                503, "the crew API did not return the crew's inputs; retry", {"Retry-After": "10"}
            )
        return respond({"crew": name, "inputs": list(listed.names), "required": list(listed.required or ())})

    def _find(self, request: web.Request, client: Client) -> CrewInfo:
        name = request.match_info["crew"]
        for crew in self._list_crews():
            if crew.name == name and client.may_use(name):
                return crew
        raise RequestRefused("unknown_crew", "no crew with this name")

    async def _figures_for(self, client: Client) -> StoreFigures | None:
        """Return the figures if the client may see the runs that they count."""
        return await self._figures() if client.sees_all else None


def _crew_view(crew: CrewInfo, figures: StoreFigures | None) -> dict[str, Any]:
    """Return a crew; what the store knows of it is null without its figures."""
    runs = slots = budget = None
    if figures is not None:
        counts = {state: figures.runs.get((crew.name, state)) for state in _OPEN_STATES}
        runs = {state: 0 if count is None else count.number for state, count in counts.items()}
        slots = {"used": figures.slots_held.get(crew.name, 0), "limit": crew.max_running}
        if crew.budget is not None:
            used = round(figures.budgets_used.get(crew.name, 0.0) * crew.budget.runs)
            budget = {"used": used, "runs": crew.budget.runs, "per": crew.budget.per}
    return {
        "name": crew.name,
        "kind": crew.kind,
        "paused": crew.paused,
        "runs": runs,
        "slots": slots,
        "budget": budget,
        "request_rate": {"now": crew.figures.request_rate, "limit": crew.requests_per_second},
        "polls_overdue": crew.figures.overdue,
        "run_times": None if crew.run_times is None else asdict(crew.run_times),
    }
