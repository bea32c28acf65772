"""Authentication and authorization over HTTP: bearer tokens, roles, crews, and rate limits.

Only the SHA-256 of a token is kept. A token is compared in constant time with every client's, so that neither the
response nor its timing reveals anything to an unauthenticated caller. Without clients the API is open, but only to the
machine it runs on (`local_only`). Failed logins are limited per address and never block a valid token from the same
address.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import structlog
from aiohttp import hdrs, web

from bridge.adapters.http import headers as request_headers
from bridge.adapters.http import problems
from bridge.adapters.http.body import DETAILS, REASON
from bridge.adapters.http.connection import mark_authenticated
from bridge.adapters.http.memory import CALLER
from bridge.adapters.http.problems import Handler
from bridge.core.addresses import is_loopback
from bridge.core.http.limits import Buckets, Rate, Slots
from bridge.core.runs.model import Run

CLIENT_RATE = Rate(per_second=1000.0, burst=2000.0)
MAX_CONCURRENT_REQUESTS = 1000
FAILED_LOGIN_RATE = Rate(per_second=1.0, burst=200.0)  # per address; beyond it the response is 429, and not logged
MAX_ADDRESSES = 10_000
BUSY_RETRY_SECONDS = 1.0  # Retry-After for a client with too many requests in flight

log = structlog.get_logger()


class Role(StrEnum):
    """What a client may do."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"


class FailedLogins:
    """The failed logins (wrong token, password, or signature) at one endpoint; `credential`: what it requires."""

    def __init__(self, credential: str) -> None:
        self._credential = credential
        self._failures = Buckets(FAILED_LOGIN_RATE, MAX_ADDRESSES)

    def record(self, request: web.Request) -> str:
        """Count one failed login and return the caller's address. Raise `Problem` (`429`) above the rate limit."""
        address = request_headers.caller_address(request)
        if wait := self._failures.take(address, asyncio.get_running_loop().time()):
            raise problems.too_many_requests(f"too many requests without a valid {self._credential}", wait)
        return address


@dataclass(frozen=True, slots=True)
class Client:
    """An API client. `token_sha256`: see `digest`. `crews`: the crews it may use and see; None: all."""

    name: str
    token_sha256: bytes = field(repr=False)
    roles: frozenset[Role]
    crews: frozenset[str] | None = None

    @property
    def source(self) -> str:
        """The source recorded on this client's runs; it scopes idempotency keys."""
        return client_source(self.name)

    @property
    def sees_all(self) -> bool:
        """Whether the client sees runs that other clients submitted."""
        return self.may(Role.READ)

    def may(self, role: Role) -> bool:
        """Return whether the client has the role; `operate` includes all others."""
        return role in self.roles or Role.OPERATE in self.roles

    def may_use(self, crew: str) -> bool:
        """Return whether the client may submit to the crew."""
        return self.crews is None or crew in self.crews

    def may_see(self, run: Run) -> bool:
        """Return whether the client may know that the run exists."""
        return self.may_use(run.crew) and (self.sees_all or run.envelope.source == self.source)

    def may_command(self, run: Run) -> bool:
        """Return whether the client may cancel and resume the run; the role `read` alone is not enough."""
        return self.may_use(run.crew) and (self.may(Role.OPERATE) or run.envelope.source == self.source)


ClientHandler = Callable[[web.Request, Client], Awaitable[web.StreamResponse]]

_ANONYMOUS = Client("anonymous", b"", frozenset(Role))


def client_source(client: str) -> str:
    """Return the source of the requests that a client submits."""
    return f"client/{client}"


def digest(token: str) -> bytes:
    """Return the SHA-256 of a token, the only form in which it is kept."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Clients:
    """The configured clients, with their rate limits, in-flight requests, and failed logins.

    `rate` applies to each client; `max_concurrent` limits the requests of all clients together.
    """

    def __init__(
        self, clients: Sequence[Client] = (), rate: Rate = CLIENT_RATE, max_concurrent: int = MAX_CONCURRENT_REQUESTS
    ) -> None:
        self._clients = tuple(clients)
        self._in_flight = Slots(max_concurrent)
        self._buckets = Buckets(rate, max(1, len(self._clients)))
        self._failed_logins = FailedLogins("token")

    @property
    def anonymous(self) -> bool:
        """Whether no clients are configured: every process on this machine may then use the API."""
        return not self._clients

    def renew(self, clients: Sequence[Client]) -> None:
        """Replace the clients' tokens."""
        self._clients = tuple(clients)

    def identify(self, token: str | None) -> Client | None:
        """Return the client that the token belongs to; None if the token is unknown or missing."""
        if not self._clients:
            return _ANONYMOUS
        offered = digest(token or "")
        matches = [client for client in self._clients if hmac.compare_digest(offered, client.token_sha256)]
        return matches[0] if matches and token else None

    def require(self, *roles: Role) -> Callable[[ClientHandler], Handler]:
        """Return a decorator that admits only clients with one of the roles and passes the client to the handler.

        Other requests do not reach the handler: `401` without a valid token, `403` without the role, `429` above the
        rate limit.
        """

        def guard(handler: ClientHandler) -> Handler:
            async def guarded(request: web.Request) -> web.StreamResponse:
                client = self._authenticate(request)
                if not any(client.may(role) for role in roles):
                    raise problems.from_status(403, f"this request requires the role {' or '.join(roles)}")
                if not self._in_flight.take(client.name, fairly=not self.anonymous):
                    raise problems.too_many_requests("this client has too many requests in flight", BUSY_RETRY_SECONDS)
                try:
                    return await handler(request, client)
                finally:
                    self._in_flight.release(client.name)

            return guarded

        return guard

    def require_audited(self, *roles: Role) -> Callable[[ClientHandler], Handler]:
        """Return a decorator like `require` that also logs who did what to which object and why, with the outcome."""

        def guard(handler: ClientHandler) -> Handler:
            return self.require(*roles)(_audited(handler))

        return guard

    def _authenticate(self, request: web.Request) -> Client:
        client = self.identify(request_headers.bearer_token(request.headers))
        if client is None:
            raise self._unauthenticated(request)
        if self._clients and (wait := self._buckets.take(client.name, asyncio.get_running_loop().time())):
            raise problems.too_many_requests("this client exceeds its rate limit", wait)
        mark_authenticated(request)
        request[CALLER] = client.name
        return client

    def _unauthenticated(self, request: web.Request) -> problems.Problem:
        address = self._failed_logins.record(request)
        log.warning(
            "authentication_failed", address=address, method=request.method, route=problems.route_pattern(request)
        )
        return problems.from_status(401, headers={hdrs.WWW_AUTHENTICATE: "Bearer"})

    def check_host(self, host: str) -> None:
        """Raise `ValueError` if the API would be open to other machines without authentication."""
        if not self._clients and not is_loopback(host):
            raise ValueError(
                f"without http.clients, http.host must be a loopback address, not {host or 'all addresses'}"
            )


def _audited(handler: ClientHandler) -> ClientHandler:
    async def audited(request: web.Request, client: Client) -> web.StreamResponse:
        outcome: int | str = "failed"
        try:
            response = await handler(request, client)
            outcome = response.status
        except Exception as error:
            problem = problems.from_exception(error)
            outcome = problem.code if problem else outcome
            raise
        finally:
            log.info(
                "command_audited",
                client=client.name,
                action=f"{request.method} {problems.route_pattern(request)}",
                target=dict(request.match_info),
                reason=request.get(REASON),
                outcome=outcome,
                **request.get(DETAILS, {}),
            )
        return response

    return audited
