"""Hooks: verify webhooks of other systems and turn them into kickoff requests."""

from collections.abc import Mapping

import structlog
from aiohttp import hdrs, web

from bridge.adapters.http import headers as request_headers
from bridge.adapters.http import problems, views
from bridge.adapters.http.auth import FailedLogins
from bridge.adapters.http.body import read_uncompressed_body, respond
from bridge.adapters.http.connection import mark_authenticated
from bridge.core.errors import NotVerified, RequestRefused
from bridge.core.inbound import hook
from bridge.core.inbound.hook import Challenge, Hook, Ignored, InboundWebhook, Kickoff
from bridge.core.runs.model import Envelope
from bridge.ports.inbound import Accept
from bridge.ports.lifecycle import Clock
from bridge.ports.metrics import CountRequest

_CHALLENGES = {"basic": 'Basic realm="hooks"', "bearer": "Bearer"}

log = structlog.get_logger()


class HooksApi:
    """The endpoint for hooks. It requires no client token: each hook verifies its own credential.

    `base_path` is the path of the API as callers see it.
    """

    def __init__(
        self,
        accept: Accept,
        hooks: Mapping[str, Hook],
        clock: Clock,
        base_path: str = "",
        count: CountRequest = lambda _outcome: None,
    ) -> None:
        self._accept = accept
        self._count = count
        self._hooks = hooks
        self._clock = clock
        self._base_path = base_path
        self._failed_logins = FailedLogins("credential")

    def renew(self, hooks: Mapping[str, Hook]) -> None:
        """Replace the hooks' secrets."""
        self._hooks = hooks

    def routes(self) -> list[web.RouteDef]:
        """Return the route."""
        return [web.post("/hooks/{name}", self._counted)]

    async def _counted(self, request: web.Request) -> web.Response:
        try:
            return await self._receive(request)
        except RequestRefused as refusal:
            self._count(refusal.code)
            raise

    async def _receive(self, request: web.Request) -> web.Response:
        found = self._hooks.get(request.match_info["name"])
        if found is None:
            raise problems.from_status(404)
        webhook = await _inbound_webhook(request)
        try:
            outcome = hook.receive(found, webhook, self._clock())
        except NotVerified as error:
            raise self._unauthenticated(request, found, str(error)) from None
        if found.scheme != "none":
            mark_authenticated(request)
        match outcome:
            case Kickoff():
                return await self._submit(request, found, outcome)
            case Challenge(None) | Ignored():
                reason = (
                    "the expression `when` is false"
                    if isinstance(outcome, Ignored)
                    else "the sender only tests the endpoint"
                )
                log.debug("hook_request_ignored", hook=found.name, reason=reason)
                return web.Response(status=204)
            case Challenge(echo):
                return respond(echo)

    def _unauthenticated(self, request: web.Request, found: Hook, reason: str) -> problems.Problem:
        """Log why verification failed, and return a problem that does not reveal it."""
        address = self._failed_logins.record(request)
        log.warning("hook_verification_failed", hook=found.name, address=address, reason=reason)
        return problems.from_status(401, headers={hdrs.WWW_AUTHENTICATE: _CHALLENGES.get(found.scheme, "Signature")})

    async def _submit(self, request: web.Request, found: Hook, kickoff: Kickoff) -> web.Response:
        envelope = Envelope(
            found.source,
            traceparent=request_headers.traceparent(request.headers),
            signature_digest=kickoff.signature_digest,
        )
        accepted = await self._accept(kickoff.request, envelope)
        self._count(accepted.outcome)
        headers: dict[str, str] = {hdrs.LOCATION: views.location(self._base_path, accepted.run)}
        if accepted.replayed:
            headers["Idempotency-Replayed"] = "true"
        return respond(views.accepted(accepted.run, accepted.warnings), 202, headers)


async def _inbound_webhook(request: web.Request) -> InboundWebhook:
    """Return the webhook with its raw body."""
    body = await read_uncompressed_body(request)
    headers = {name.lower(): request.headers.getall(name) for name in request.headers}
    return InboundWebhook(headers, {name: request.query.getall(name) for name in request.query}, body)
