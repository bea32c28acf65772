"""The door for webhooks of other systems: each hook knows its senders and what their content becomes."""

from collections.abc import Mapping

import structlog
from aiohttp import hdrs, web

from bridge.adapters.http import headers as request_headers
from bridge.adapters.http import problems, views
from bridge.adapters.http.body import read_plain_body, respond
from bridge.adapters.http.connection import authenticated
from bridge.adapters.http.failed_logins import FailedLogins
from bridge.core.errors import NotVerified
from bridge.core.inbound import hook
from bridge.core.inbound.hook import Challenge, Hook, Ignored, InboundWebhook, Kickoff
from bridge.core.runs.model import Envelope
from bridge.ports.inbound import Accept
from bridge.ports.lifecycle import Clock

_CHALLENGES = {"basic": 'Basic realm="hooks"', "bearer": "Bearer"}

log = structlog.get_logger()


class HooksApi:
    """Takes webhooks; asks for no client, since each hook has its own proof."""

    def __init__(self, accept: Accept, hooks: Mapping[str, Hook], clock: Clock) -> None:
        self._accept = accept
        self._hooks = hooks
        self._clock = clock
        self._failed_logins = FailedLogins("proof")

    def renew(self, hooks: Mapping[str, Hook]) -> None:
        """The same hooks with other secrets."""
        self._hooks = hooks

    def routes(self) -> list[web.RouteDef]:
        """The one route."""
        return [web.post("/hooks/{name}", self._take)]

    async def _take(self, http: web.Request) -> web.Response:
        found = self._hooks.get(http.match_info["name"])
        if found is None:
            raise problems.plain(404)
        webhook = await _inbound_webhook(http)
        try:
            outcome = hook.take(found, webhook, self._clock())
        except NotVerified as error:
            raise self._unauthenticated(http, found, str(error)) from None
        if found.scheme != "none":
            authenticated(http)
        match outcome:
            case Kickoff():
                return await self._submit(http, found, outcome)
            case Challenge(None) | Ignored():
                return web.Response(status=204)
            case Challenge(answer):
                return respond(answer)

    def _unauthenticated(self, http: web.Request, found: Hook, reason: str) -> problems.Problem:
        """The sender learns nothing of what is wrong with its proof, whatever it is."""
        address = self._failed_logins.count(http)
        log.warning("hook_not_verified", hook=found.name, address=address, reason=reason)
        return problems.plain(401, headers={hdrs.WWW_AUTHENTICATE: _CHALLENGES.get(found.scheme, "Signature")})

    async def _submit(self, http: web.Request, found: Hook, kickoff: Kickoff) -> web.Response:
        envelope = Envelope(
            found.source,
            traceparent=request_headers.traceparent(http.headers),
            signature_digest=kickoff.signature_digest,
        )
        accepted = await self._accept(kickoff.request, envelope)
        headers: dict[str, str] = {hdrs.LOCATION: f"/v1/runs/{accepted.run.run_id}"}
        if accepted.replayed:
            headers["Idempotency-Replayed"] = "true"
        return respond(views.accepted(accepted.run), 202, headers)


async def _inbound_webhook(http: web.Request) -> InboundWebhook:
    """The webhook with its raw body."""
    body = await read_plain_body(http)
    headers = {name.lower(): http.headers.getall(name) for name in http.headers}
    return InboundWebhook(headers, {name: http.query.getall(name) for name in http.query}, body)
