"""The door for the crew API's own webhooks; they carry no authentication but the token in their path."""

from typing import Any

import structlog
from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.body import read_body
from bridge.adapters.http.connection import authenticated
from bridge.core.crew.api_json import read_webhook
from bridge.core.crew.webhooks import Kind
from bridge.core.errors import Stale
from bridge.core.redaction import Redactor
from bridge.ports.inbound import HandleCrewWebhook

log = structlog.get_logger()


class AmpApi:
    """Answers at once; what a webhook says is only a hint, so nobody need send it again."""

    def __init__(self, handle_webhook: HandleCrewWebhook, redactor: Redactor | None = None) -> None:
        self._handle_webhook = handle_webhook
        self._redactor = redactor or Redactor()

    def routes(self) -> list[web.RouteDef]:
        """The one route; it asks for no client."""
        return [web.post("/amp/{token}/{kind}", self._take)]

    async def _take(self, http: web.Request) -> web.Response:
        kind = next((known for known in Kind if known == http.match_info["kind"]), None)
        if kind is None or not await self._known(http, kind):
            raise problems.plain(404)
        return web.Response(status=204)

    async def _known(self, http: web.Request, kind: Kind) -> bool:
        async def read() -> Any:
            authenticated(http)  # it is called for a token that is known
            body = await read_body(http)
            content, whole = read_webhook(body, enveloped=kind is not Kind.CREW)
            if not whole:
                log.warning("crew_webhook_unreadable", kind=kind.value, size=len(body), partly=content is not None)
            return self._redactor.value(content)

        try:
            return await self._handle_webhook(http.match_info["token"], kind, read)
        except Stale:  # somebody else was faster; the next hint or look finds what there is
            return True
