"""Commands on runs: cancel, submit human input, resolve a run in doubt, release held runs."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bridge.adapters.http import headers as request_headers
from bridge.adapters.http import views
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import REASON, read_command_body, respond
from bridge.core.errors import RequestRefused
from bridge.core.json import check_members, text_member
from bridge.core.runs import request as kickoff_request
from bridge.core.runs.commands import Abandon, Adopt, Cancel, Retry, RunCommand, read_resume
from bridge.ports.inbound import ApplyCommand, ExplainWaiting
from bridge.ports.lifecycle import Clock
from bridge.ports.queries import Queries


class CommandsApi:
    """Commands over HTTP. A client may cancel and resume the runs it submitted; everything else requires `operate`."""

    def __init__(
        self,
        apply_command: ApplyCommand,
        explain_waiting: ExplainWaiting,
        store: Queries,
        clients: Clients,
        clock: Clock,
    ) -> None:
        self._apply_command = apply_command
        self._explain_waiting = explain_waiting
        self._store = store
        self._clients = clients
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, each with its required role."""
        return [
            web.post("/v1/runs/release", self._clients.require_audited(Role.OPERATE)(self._release)),
            web.post("/v1/runs/{run_id}/cancel", self._clients.require_audited(Role.SUBMIT)(self._cancel)),
            web.post("/v1/runs/{run_id}/resume", self._clients.require_audited(Role.SUBMIT)(self._resume)),
            web.post("/v1/runs/{run_id}/resolve", self._clients.require_audited(Role.OPERATE)(self._resolve)),
        ]

    async def _cancel(self, request: web.Request, client: Client) -> web.Response:
        check_members(await read_command_body(request))
        return await self._apply(request, client, Cancel())

    async def _resume(self, request: web.Request, client: Client) -> web.Response:
        key = kickoff_request.check_key(request_headers.idempotency_key(request.headers))
        scoped = key and f"{client.source} {key}"
        return await self._apply(request, client, read_resume(await read_command_body(request), scoped))

    async def _resolve(self, request: web.Request, client: Client) -> web.Response:
        return await self._apply(request, client, _resolution(await read_command_body(request)))

    async def _release(self, request: web.Request, client: Client) -> web.Response:
        body = await read_command_body(request)
        check_members(body, {"run_id"})
        run_id = text_member(body, "run_id")
        if run_id is not None:
            run_id = (await views.load_visible_run(self._store, client, run_id)).run_id
        return respond({"released": await self._store.release(run_id, client.crews, client.source, self._clock())})

    async def _apply(self, request: web.Request, client: Client, command: RunCommand) -> web.Response:
        run = await views.load_commanded_run(self._store, client, request)
        run = await self._apply_command(run.run_id, command, client.source, request.get(REASON) or None)
        return respond(await views.load_run_detail(self._store, self._explain_waiting, run))


def _resolution(body: Mapping[str, Any]) -> RunCommand:
    check_members(body, {"action", "kickoff_id", "force"})
    force = body.get("force", False)
    if not isinstance(force, bool):
        raise RequestRefused("invalid_request", "must be true or false", "force")
    if "force" in body and body.get("action") != "adopt":
        raise RequestRefused("invalid_request", "applies only to adopt", "force")
    match body.get("action"), body.get("kickoff_id"):
        case "retry", None:
            return Retry()
        case "abandon", None:
            return Abandon()
        case "adopt", str(kickoff_id):
            return Adopt(kickoff_id, force)
        case "adopt", _:
            raise RequestRefused("invalid_request", "adopt requires the kickoff id, as a string", "kickoff_id")
        case "retry" | "abandon", _:
            raise RequestRefused("invalid_request", "applies only to adopt", "kickoff_id")
        case _:
            raise RequestRefused("invalid_request", "must be retry, adopt, or abandon", "action")
