"""Who may do what over HTTP: clients by bearer token, roles, crews.

Tokens are known by their SHA-256 only and compared in constant time with every client's, so that neither the answer nor
its timing tells a stranger anything. Without any client the API is open, and then only for the machine it runs on.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import hdrs, web

from bridge.adapters import http_headers, http_problem
from bridge.adapters.http_problem import Handler
from bridge.core.model import Run


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
        return f"client/{self.name}"

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


ClientHandler = Callable[[web.Request, Client], Awaitable[web.StreamResponse]]

_ANYBODY = Client("anonymous", b"", frozenset(Role))


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Clients:
    """Everybody who may use the API."""

    def __init__(self, clients: Sequence[Client] = ()) -> None:
        self._clients = tuple(clients)

    def identify(self, token: str | None) -> Client | None:
        """The client that a token belongs to."""
        if not self._clients:
            return _ANYBODY
        offered = digest(token or "")
        found = [client for client in self._clients if hmac.compare_digest(offered, client.token_sha256)]
        return found[0] if found and token else None

    def only(self, *roles: Role) -> Callable[[ClientHandler], Handler]:
        """A guard for handlers: lets clients in that have one of the roles, and hands the client over.

        The handler is not reached otherwise: `401` for strangers, `403` for clients without the role.
        """

        def guard(handler: ClientHandler) -> Handler:
            async def guarded(request: web.Request) -> web.StreamResponse:
                client = self.identify(http_headers.bearer_token(request.headers))
                if client is None:
                    raise http_problem.plain(401, headers={hdrs.WWW_AUTHENTICATE: "Bearer"})
                if not any(client.may(role) for role in roles):
                    raise http_problem.plain(403, f"this needs the role {' or '.join(roles)}")
                return await handler(request, client)

            return guarded

        return guard

    def check_host(self, host: str) -> None:
        """Raise `ValueError` if the API would be open to other machines."""
        if not self._clients and not _is_loopback(host):
            raise ValueError(f"without clients the API may only listen on a loopback address, not on {host or 'all'}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
