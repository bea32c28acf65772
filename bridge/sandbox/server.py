"""Assemble, start, and stop a sandbox."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.sandbox.calls import CrewCalls, Parts
from bridge.sandbox.control_api import ControlApi
from bridge.sandbox.crew import Crew
from bridge.sandbox.faults import Faults
from bridge.sandbox.humans import Humans
from bridge.sandbox.ledger import Ledger, Traffic
from bridge.sandbox.planner import Planner
from bridge.sandbox.responses import detail
from bridge.sandbox.rules import Call, rules_from
from bridge.sandbox.script import Script
from bridge.sandbox.sender import Sender
from bridge.sandbox.settings import SandboxSettings
from bridge.sandbox.transmission import respond
from bridge.sandbox.webhooks import Writer

Clock = Callable[[], float]
"""Return the current time in epoch seconds."""

_MAX_BODY = 64 * 1024 * 1024
_STOP_SECONDS = 0.1  # long enough to finish sending a response, too short to sit out a delay

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Sandbox:
    """Keeps the parts of one sandbox."""

    def __init__(self, settings: SandboxSettings, clock: Clock) -> None:
        rates: dict[Call, float] = {
            "kickoff": settings.kickoff_fault_rate,
            "status": settings.status_fault_rate,
            "resume": settings.resume_fault_rate,
            "stop": settings.stop_fault_rate,
        }
        faults = Faults(rates, settings.seed)
        faults.add(rules_from(settings.faults))
        self._settings = settings
        self._ledger = ledger = Ledger(settings.ledger_file)
        traffic = Traffic()
        busy_until = [execution.ends_at for execution in ledger.executions()]
        script = Script(settings.script)
        crew = Crew(settings, Planner(settings, busy_until), ledger.executions, script)
        self._writer = writer = Writer(settings)
        self._sender = sender = Sender(settings, clock, traffic.webhooks)
        humans = Humans(settings.kind, clock, crew, ledger, traffic, writer, sender)
        calls = CrewCalls(Parts(clock, crew, faults, humans, ledger, traffic, settings.kickoff_delay))
        self._route_sources = (calls, humans, ControlApi(clock, crew, ledger, traffic, faults, script, humans))

    def application(self, routes: Iterable[web.RouteDef] = ()) -> web.Application:
        """Return the aiohttp application, with further `routes`."""
        app = web.Application(middlewares=[_errors_as_detail, self._send_due_webhooks], client_max_size=_MAX_BODY)
        for source in self._route_sources:
            app.add_routes(source.routes())
        app.add_routes(routes)
        app.on_startup.append(self._start)
        app.on_cleanup.append(self._close)
        return app

    def set_base_url(self, url: str) -> None:
        """Set the base URL under which callers reach the sandbox."""
        self._writer.base_url = (self._settings.public_url or url).rstrip("/")

    async def _start(self, _app: web.Application) -> None:
        await self._sender.start()

    async def _close(self, _app: web.Application) -> None:
        await self._sender.stop()
        self._ledger.close()

    @web.middleware
    async def _send_due_webhooks(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        # No response may report an event before its webhook is on its way, even with a manual clock.
        self._sender.send_due()
        return await handler(request)


@asynccontextmanager
async def running(
    settings: SandboxSettings, clock: Clock = time.time, routes: Iterable[web.RouteDef] = ()
) -> AsyncIterator[str]:
    """Run a sandbox for the duration of the `async with`; yield its base URL. It also serves the given `routes`."""
    sandbox = Sandbox(settings, clock)
    runner = web.AppRunner(sandbox.application(routes), access_log=None, shutdown_timeout=_STOP_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        port: int = runner.addresses[0][1]
        url = f"http://{settings.host}:{port}"
        sandbox.set_base_url(url)
        yield url
    finally:
        await runner.cleanup()


async def serve(settings: SandboxSettings, on_ready: Callable[[str], None]) -> None:
    """Run a sandbox until cancelled; call `on_ready` with the base URL once it accepts requests."""
    async with running(settings) as url:
        on_ready(url)
        await asyncio.Event().wait()


@web.middleware
async def _errors_as_detail(request: web.Request, handler: _Handler) -> web.StreamResponse:
    # Unknown paths and wrong methods use the error shape of the crew API; `GET /` is a 404 (contract 1, observed live).
    try:
        return await handler(request)
    except web.HTTPException as error:
        return respond(detail(error.status, error.reason))
