"""Serve the sandbox's own routes, which begin with `/_` and need no token.

`/_ledger` (GET, DELETE) reports the requests received and the webhooks sent; `/_faults` (GET, POST, DELETE) injects
faults into the next calls; `/_script` (GET, POST, DELETE) says what executions with certain inputs do; `/_deploy`
(POST) replaces the inputs.
"""

from collections.abc import Callable

from aiohttp import web

from bridge.sandbox.crew import Crew
from bridge.sandbox.faults import Faults
from bridge.sandbox.humans import Humans
from bridge.sandbox.inputs import read_inputs
from bridge.sandbox.ledger import Ledger, Traffic
from bridge.sandbox.responses import detail, json_response
from bridge.sandbox.rules import read_rules
from bridge.sandbox.script import Script, read_entries
from bridge.sandbox.transmission import respond


class ControlApi:
    """Handle requests to the ledger, the fault rules, the script, and the deployment."""

    def __init__(
        self,
        clock: Callable[[], float],
        crew: Crew,
        ledger: Ledger,
        traffic: Traffic,
        faults: Faults,
        script: Script,
        humans: Humans,
    ) -> None:
        self._clock = clock
        self._crew = crew
        self._ledger = ledger
        self._traffic = traffic
        self._faults = faults
        self._script = script
        self._humans = humans

    def routes(self) -> list[web.RouteDef]:
        """Return the control routes."""
        return [
            web.get("/_ledger", self._show_ledger),
            web.delete("/_ledger", self._clear_ledger),
            web.get("/_faults", self._show_faults),
            web.post("/_faults", self._add_faults),
            web.delete("/_faults", self._clear_faults),
            web.get("/_script", self._show_script),
            web.post("/_script", self._add_script),
            web.delete("/_script", self._clear_script),
            web.post("/_deploy", self._deploy),
        ]

    async def _show_ledger(self, _request: web.Request) -> web.Response:
        now = self._clock()
        report = {**self._ledger.report(now), "waiting": self._humans.waiting(now), **self._traffic.report()}
        return respond(json_response(200, report))

    async def _clear_ledger(self, _request: web.Request) -> web.Response:
        self._traffic.clear()
        await self._ledger.clear(self._clock())
        return web.Response(status=204)

    async def _show_faults(self, _request: web.Request) -> web.Response:
        return respond(json_response(200, self._faults.report()))

    async def _add_faults(self, request: web.Request) -> web.Response:
        try:
            self._faults.add(read_rules(await request.read()))
        except ValueError as error:
            return respond(detail(422, str(error)))
        return respond(json_response(200, self._faults.report()))

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._faults.clear()
        return web.Response(status=204)

    async def _show_script(self, _request: web.Request) -> web.Response:
        return respond(json_response(200, {"entries": self._script.report()}))

    async def _add_script(self, request: web.Request) -> web.Response:
        try:
            self._script.add(read_entries(await request.read()))
        except ValueError as error:
            return respond(detail(422, str(error)))
        return respond(json_response(200, {"entries": self._script.report()}))

    async def _clear_script(self, _request: web.Request) -> web.Response:
        self._script.clear()
        return web.Response(status=204)

    async def _deploy(self, request: web.Request) -> web.Response:
        try:
            self._crew.deploy(read_inputs(await request.read()))
        except ValueError as error:
            return respond(detail(422, str(error)))
        return respond(self._crew.inputs())
