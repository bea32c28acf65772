"""Dead letters: list the messages that could not be accepted, send one back, or remove one for good."""

import re

from aiohttp import web

from bridge.adapters.http import problems, query
from bridge.adapters.http.auth import Client, Clients, Role
from bridge.adapters.http.body import read_command_body, respond
from bridge.core.json import check_members
from bridge.ports.dead_letters import DeadLetters

DEFAULT_LIMIT = 50
MAX_LIMIT = 100


class DeadLettersApi:
    """Dead letters over HTTP; `dead_letters` is None without RabbitMQ.

    They belong to no crew, so a client that is limited to some crews may not use them.
    """

    def __init__(self, dead_letters: DeadLetters | None, clients: Clients) -> None:
        self._dead_letters = dead_letters
        self._clients = clients

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, each with its required role."""
        apply_command = self._clients.require_audited(Role.OPERATE)
        return [
            web.get("/v1/dead-letters", self._clients.require(Role.OPERATE)(self._list)),
            web.post("/v1/dead-letters/{id}/replay", apply_command(self._replay)),
            web.post("/v1/dead-letters/{id}/drop", apply_command(self._drop)),
        ]

    async def _list(self, request: web.Request, client: Client) -> web.Response:
        limit = _limit(query.read_parameters(request, {"limit"}).get("limit"))
        page = await self._queue(client).oldest(limit)
        return respond({"messages": page.messages, "total": page.total})

    async def _replay(self, request: web.Request, client: Client) -> web.Response:
        check_members(await read_command_body(request))
        await self._queue(client).replay(request.match_info["id"])
        return respond({"id": request.match_info["id"]})

    async def _drop(self, request: web.Request, client: Client) -> web.Response:
        check_members(await read_command_body(request))
        await self._queue(client).drop(request.match_info["id"])
        return respond({"id": request.match_info["id"]})

    def _queue(self, client: Client) -> DeadLetters:
        if client.crews is not None:
            raise problems.from_status(403, "dead letters belong to no crew, and this client is limited to some crews")
        if self._dead_letters is None:
            raise problems.from_status(404, "there are no dead letters without RabbitMQ; the setting amqp is absent")
        return self._dead_letters


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > MAX_LIMIT:
        raise problems.invalid_parameter("limit", f"must be an integer from 0 to {MAX_LIMIT}")
    return int(text)
