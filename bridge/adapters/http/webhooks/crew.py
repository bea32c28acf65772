"""Crew webhooks: receive the crew API's webhooks, which are authenticated only by the token in their path."""

from typing import Any

import structlog
from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.body import read_beginning, read_body
from bridge.adapters.http.connection import mark_authenticated
from bridge.core.crew import api_json
from bridge.core.crew.api_json import read_webhook
from bridge.core.crew.webhooks import Kind, shorten
from bridge.core.errors import RequestRefused
from bridge.core.redaction import Redactor
from bridge.ports.inbound import ReceiveCrewWebhook

BEGINNING = 64 * 1024  # bytes that are read of a body that is too large

log = structlog.get_logger()


class CrewWebhooksApi:
    """The endpoint for crew webhooks. It responds once the webhook is stored."""

    def __init__(self, receive_webhook: ReceiveCrewWebhook, redactor: Redactor | None = None) -> None:
        self._receive_webhook = receive_webhook
        self._redactor = redactor or Redactor()

    def routes(self) -> list[web.RouteDef]:
        """Return the route; it requires no client token."""
        return [web.post("/amp/{token}/{kind}", self._receive)]

    async def _receive(self, request: web.Request) -> web.Response:
        kind = next((known for known in Kind if known == request.match_info["kind"]), None)
        if kind is None or not await self._handle(request, kind):
            raise problems.from_status(404)
        return web.Response(status=204)

    async def _handle(self, request: web.Request, kind: Kind) -> bool:
        async def read() -> Any:
            mark_authenticated(request)  # the body is read only for a known token
            try:
                body = await read_body(request)
            except RequestRefused as refused:
                if refused.code != "too_large":
                    raise
                return self._redactor.value(await self._beginning(request, kind))
            content, whole = read_webhook(body, enveloped=kind is not Kind.CREW)
            if not whole:
                log.warning("crew_webhook_rejected", kind=kind.value, size=len(body), partly=content is not None)
            return self._redactor.value(content)

        return await self._receive_webhook(request.match_info["token"], kind, read)

    async def _beginning(self, request: web.Request, kind: Kind) -> Any:
        """Read the beginning of a body that is too large: the arrival alone is a reason to poll."""
        content = shorten(kind, api_json.read_beginning(await read_beginning(request, BEGINNING)))
        log.warning("crew_webhook_too_large", kind=kind.value, size=request.content_length, partly=content is not None)
        return content
