"""Who may do what over HTTP: clients by bearer token, roles, crews, and how often.

Tokens are known by their SHA-256 only and compared in constant time with every client's, so that neither the answer nor
its timing tells a stranger anything. Without any client the API is open, and then only for the machine it runs on
(`http_local`).
Strangers are counted by their address, and only strangers: a right token is let in whatever others do beside it.
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
from bridge.adapters.http.api.command_body import REASON
from bridge.adapters.http.connection import authenticated
from bridge.adapters.http.failed_logins import FailedLogins
from bridge.adapters.http.memory import CALLER
from bridge.adapters.http.problems import Handler
from bridge.core.addresses import is_loopback
from bridge.core.http.slots import Slots
from bridge.core.runs.model import Run
from bridge.core.token_bucket import Buckets, Rate

CLIENT_REQUESTS = Rate(per_second=1000.0, burst=2000.0)
REQUESTS_AT_ONCE = 1000
BUSY_SECONDS = 1.0  # after which a client that has too many requests under way may try again

log = structlog.get_logger()


class Role(StrEnum):
    """What a client may do."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Client:
    """Somebody with a token. `token_sha256`: see `digest`. `crews`: those it may use and see; None: all."""

    name: str
    token_sha256: bytes = field(repr=False)
    roles: frozenset[Role]
    crews: frozenset[str] | None = None

    @property
    def source(self) -> str:
        """The sender that this client's runs carry; idempotency keys are scoped by it."""
        return client_source(self.name)

    @property
    def sees_all(self) -> bool:
        """Whether it sees the runs of others too."""
        return self.may(Role.READ)

    def may(self, role: Role) -> bool:
        """Whether it has a role; an operator has every one."""
        return role in self.roles or Role.OPERATE in self.roles

    def may_use(self, crew: str) -> bool:
        """Whether it may submit to a crew."""
        return self.crews is None or crew in self.crews

    def may_see(self, run: Run) -> bool:
        """Whether it may know that a run exists."""
        return self.may_use(run.crew) and (self.sees_all or run.envelope.source == self.source)

    def may_command(self, run: Run) -> bool:
        """Whether it may cancel a run and answer for it; to see the runs of others is not to own them."""
        return self.may_use(run.crew) and (self.may(Role.OPERATE) or run.envelope.source == self.source)


ClientHandler = Callable[[web.Request, Client], Awaitable[web.StreamResponse]]

_ANONYMOUS = Client("anonymous", b"", frozenset(Role))


def client_source(client: str) -> str:
    """The sender of what a client submits."""
    return f"client/{client}"


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Clients:
    """Everybody who may use the API; `requests` is each one's rate, `at_once` how many all may have under way."""

    def __init__(
        self, clients: Sequence[Client] = (), requests: Rate = CLIENT_REQUESTS, at_once: int = REQUESTS_AT_ONCE
    ) -> None:
        self._clients = tuple(clients)
        self._under_way = Slots(at_once)
        self._requests = Buckets(requests, max(1, len(self._clients)))
        self._failed_logins = FailedLogins("token")

    @property
    def anonymous(self) -> bool:
        """Whether there are no clients: then everyone on this machine may use the API, and no one else."""
        return not self._clients

    def renew(self, clients: Sequence[Client]) -> None:
        """The same clients with other tokens."""
        self._clients = tuple(clients)

    def identify(self, token: str | None) -> Client | None:
        """The client that a token belongs to."""
        if not self._clients:
            return _ANONYMOUS
        offered = digest(token or "")
        found = [client for client in self._clients if hmac.compare_digest(offered, client.token_sha256)]
        return found[0] if found and token else None

    def only(self, *roles: Role) -> Callable[[ClientHandler], Handler]:
        """A guard for handlers: lets clients in that have one of the roles, and hands the client over.

        The handler is not reached otherwise: `401` for strangers, `403` for clients without the role, `429` for either
        when they come too often.
        """

        def guard(handler: ClientHandler) -> Handler:
            async def guarded(request: web.Request) -> web.StreamResponse:
                client = self._admit(request)
                if not any(client.may(role) for role in roles):
                    raise problems.plain(403, f"this needs the role {' or '.join(roles)}")
                if not self._under_way.take(client.name, fairly=not self.anonymous):
                    raise problems.too_often("too many requests of this client are under way", BUSY_SECONDS)
                try:
                    return await handler(request, client)
                finally:
                    self._under_way.release(client.name)

            return guarded

        return guard

    def commands(self, *roles: Role) -> Callable[[ClientHandler], Handler]:
        """As `only`, and the log keeps who did what to what and why, whatever came of it."""

        def guard(handler: ClientHandler) -> Handler:
            return self.only(*roles)(_audited(handler))

        return guard

    def _admit(self, request: web.Request) -> Client:
        client = self.identify(request_headers.bearer_token(request.headers))
        if client is None:
            raise self._unauthenticated(request)
        if self._clients and (wait := self._requests.take(client.name, asyncio.get_running_loop().time())):
            raise problems.too_often("this client sends more requests than it may", wait)
        authenticated(request)
        request[CALLER] = client.name
        return client

    def _unauthenticated(self, request: web.Request) -> problems.Problem:
        address = self._failed_logins.count(request)
        log.warning("login_failed", address=address, method=request.method, route=problems.route_pattern(request))
        return problems.plain(401, headers={hdrs.WWW_AUTHENTICATE: "Bearer"})

    def check_host(self, host: str) -> None:
        """Raise `ValueError` if the API would be open to other machines."""
        if not self._clients and not is_loopback(host):
            raise ValueError(f"without clients the API may only listen on a loopback address, not on {host or 'all'}")


def _audited(handler: ClientHandler) -> ClientHandler:
    async def audited(request: web.Request, client: Client) -> web.StreamResponse:
        outcome: int | str = "failed"
        try:
            response = await handler(request, client)
            outcome = response.status
        except Exception as error:
            problem = problems.of(error)
            outcome = problem.code if problem else outcome
            raise
        finally:
            log.info(
                "audit",
                client=client.name,
                action=f"{request.method} {problems.route_pattern(request)}",
                target=dict(request.match_info),
                reason=request.get(REASON),
                outcome=outcome,
            )
        return response

    return audited
