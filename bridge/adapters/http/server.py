"""The HTTP server: bind, serve routes within limits, and finish requests in flight before stopping."""

import asyncio
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace

import structlog
from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.auth import Clients
from bridge.adapters.http.body import BODY_SECONDS
from bridge.adapters.http.connection import Connection, begin_request
from bridge.adapters.http.headers import TRUSTED_PROXIES
from bridge.adapters.http.local_only import local_only
from bridge.adapters.http.long_poll import SHUTTING_DOWN
from bridge.adapters.http.memory import MEMORY, HttpMemory, release_body
from bridge.core.http.forwarded import Network
from bridge.core.http.limits import Connections
from bridge.observability.logging import log_fault
from bridge.ports.lifecycle import ReportFault

_BACKLOG = 128  # connections that the kernel queues until they are accepted

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Listen:
    """Listening address and limits. Sizes in bytes, times in seconds; port 0: any free port.

    At `max_connections`, a new connection displaces the oldest idle connection of an unauthenticated caller; one
    address may have half of them. `keepalive_seconds` exceeds the 60 s for which proxies keep idle connections, so that
    proxies close first. `X-Forwarded-For` of `trusted_proxies` names the caller. `drain_seconds`: how long requests in
    flight may take when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    ops_port: int | None = None
    max_body: int = 1024 * 1024
    max_connections: int = 1000
    head_seconds: float = 10.0
    body_seconds: float = 10.0
    keepalive_seconds: float = 75.0
    write_seconds: float = 10.0
    drain_seconds: float = 10.0
    trusted_proxies: tuple[Network, ...] = ()


class HttpServer:
    """One port and its routes; a `ports.Service` that must be started before `run`."""

    def __init__(
        self,
        listen: Listen,
        routes: Iterable[web.RouteDef],
        clients: Clients,
        name: str = "http",
        report: ReportFault = log_fault,
        memory: HttpMemory | None = None,
    ) -> None:
        self.name = name
        self.routes = list(routes)
        self._memory = memory or HttpMemory()
        self._listen = listen
        self._clients = clients
        self._connections = Connections[Connection](
            listen.max_connections, max(1, listen.max_connections // 2), lambda connection: connection.idle
        )
        self._report = report
        self._stopping = asyncio.Event()
        self._runner = web.AppRunner(self._application(), shutdown_timeout=listen.drain_seconds)
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The bound port."""
        assert self._listener is not None, "not started"
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def memory(self) -> HttpMemory:
        """The memory budgets of its requests and responses."""
        return self._memory

    async def start(self) -> None:
        """Bind. Raise `OSError` if the port is in use or the host is not a local address."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                self._connect, self._listen.host, self._listen.port, backlog=_BACKLOG
            )
        except OSError as error:
            await self._runner.cleanup()
            setting = "http.port" if self.name == "http" else "http.ops_port"
            where = f"{self._listen.host}:{self._listen.port}"
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise OSError(f"http.host, {setting}: cannot listen on {where}: {reason}") from None
        log.info("http_server_started", service=self.name, host=self._listen.host, port=self.port)

    async def run(self) -> None:
        """Serve until stopped."""
        try:
            await self._stopping.wait()
        finally:
            await self.close()

    def stop(self) -> None:
        """Accept no new connections; finish requests in flight and answer long polls."""
        self._stopping.set()
        if self._listener is not None:
            self._listener.close()

    async def close(self) -> None:
        """Stop, and wait for requests in flight; allowed for a server that never ran."""
        self.stop()
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(
            middlewares=[
                _log_requests,
                release_body,
                problems.middleware,
                local_only(lambda: self._clients.anonymous),
            ],
            client_max_size=self._listen.max_body,
        )
        app[BODY_SECONDS] = self._listen.body_seconds
        app[TRUSTED_PROXIES] = self._listen.trusted_proxies
        app[SHUTTING_DOWN] = self._stopping
        app[problems.REPORT] = self._report
        app[MEMORY] = self._memory
        app.add_routes(self.routes)
        return app

    def _connect(self) -> asyncio.BaseProtocol:
        assert self._runner.server is not None, "not set up"
        listen = self._listen
        return Connection(
            self._runner.server,
            self._connections,
            listen.head_seconds,
            listen.keepalive_seconds,
            listen.write_seconds,
            self._memory.responses,
        )


def build_servers(
    listen: Listen,
    api: Iterable[web.RouteDef],
    ops: Iterable[web.RouteDef],
    clients: Clients,
    report: ReportFault = log_fault,
    memory: HttpMemory | None = None,
) -> tuple[HttpServer, ...]:
    """Return the API server, and a second one if the ops routes have a separate port; the second stops last.

    Raise `ValueError` if the API would be open to other machines without authentication.
    """
    clients.check_host(listen.host)
    if listen.ops_port is None:
        return (HttpServer(listen, [*api, *ops], clients, report=report, memory=memory),)
    private, memory = replace(listen, port=listen.ops_port), memory or HttpMemory()
    return (
        HttpServer(listen, api, clients, report=report, memory=memory),
        HttpServer(private, ops, clients, "http-ops", report, memory),
    )


@web.middleware
async def _log_requests(request: web.Request, handler: problems.Handler) -> web.StreamResponse:
    begin_request(request)
    clock = asyncio.get_running_loop().time
    began = clock()
    response = await handler(request)
    took = round((clock() - began) * 1000, 1)
    route = problems.route_pattern(request)
    log.debug("http_request_completed", method=request.method, route=route, status=response.status, ms=took)
    return response
