"""The API for those who steer: cancel a run, answer its question, decide about one in doubt."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from bridge.adapters.http import headers as request_headers
from bridge.adapters.http import problems, views
from bridge.adapters.http.api.command_body import read_command_body
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import respond
from bridge.core import fields
from bridge.core.errors import RequestRefused
from bridge.core.runs import request
from bridge.core.runs.commands import Abandon, Adopt, Cancel, Retry, RunCommand, read_resume
from bridge.ports.inbound import CommandRun
from bridge.ports.store import Store


class CommandsApi:
    """Steering over HTTP; a producer cancels and answers its own runs, everything else is for operators."""

    def __init__(self, apply_command: CommandRun, store: Store, clients: Clients) -> None:
        self._apply_command = apply_command
        self._store = store
        self._clients = clients

    def routes(self) -> list[web.RouteDef]:
        """Every route, each with who may use it."""
        return [
            web.post("/v1/runs/{run_id}/cancel", self._clients.commands(Role.SUBMIT)(self._cancel)),
            web.post("/v1/runs/{run_id}/resume", self._clients.commands(Role.SUBMIT)(self._resume)),
            web.post("/v1/runs/{run_id}/resolve", self._clients.commands(Role.OPERATE)(self._resolve)),
        ]

    async def _cancel(self, http: web.Request, client: Client) -> web.Response:
        fields.only(await read_command_body(http))
        return await self._answer(http, client, Cancel())

    async def _resume(self, http: web.Request, client: Client) -> web.Response:
        key = request.check_key(request_headers.idempotency_key(http.headers))
        scoped = key and f"{client.source} {key}"
        return await self._answer(http, client, read_resume(await read_command_body(http), scoped))

    async def _resolve(self, http: web.Request, client: Client) -> web.Response:
        return await self._answer(http, client, _resolution(await read_command_body(http)))

    async def _answer(self, http: web.Request, client: Client, command: RunCommand) -> web.Response:
        run = await views.visible_run(self._store, client, http.match_info["run_id"])
        if not client.may_command(run):
            raise problems.plain(403, "this client did not submit the run, and lacks the role operate")
        run = await self._apply_command(run.run_id, command, client.source)
        return respond(await views.run_in_full(self._store, run))


def _resolution(body: Mapping[str, Any]) -> RunCommand:
    fields.only(body, {"action", "kickoff_id", "force"})
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
            raise RequestRefused("invalid_request", "adopt needs the execution's id, as text", "kickoff_id")
        case "retry" | "abandon", _:
            raise RequestRefused("invalid_request", "only adopt takes an execution's id", "kickoff_id")
        case _:
            raise RequestRefused("invalid_request", "must be retry, adopt or abandon", "action")
