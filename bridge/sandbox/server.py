"""The sandbox on the network: its parts put together, start and stop."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.sandbox.answers import detail
from bridge.sandbox.calls import CrewCalls, Parts
from bridge.sandbox.control_api import ControlApi
from bridge.sandbox.crew import Crew
from bridge.sandbox.faults import Faults
from bridge.sandbox.humans import Humans
from bridge.sandbox.ledger import Ledger
from bridge.sandbox.notes import Notes
from bridge.sandbox.planner import Planner
from bridge.sandbox.replies import respond
from bridge.sandbox.rules import Call, rules_from
from bridge.sandbox.sender import Sender
from bridge.sandbox.settings import SandboxSettings
from bridge.sandbox.webhooks import Writer

Clock = Callable[[], float]
"""Returns the present moment in epoch seconds."""

_MAX_BODY = 64 * 1024 * 1024
_STOP_SECONDS = 0.1  # long enough for what is being answered, too short for who waits for a delay

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Sandbox:
    """All parts of one sandbox."""

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
        notes = Notes()
        known = list(ledger.executions())
        crew = Crew(settings, Planner(settings, (execution.ends_at for execution in known)), len(known))
        self._writer = writer = Writer(settings)
        self._sender = sender = Sender(settings, clock, notes.webhooks)
        humans = Humans(settings.kind, clock, crew, ledger, notes, writer, sender)
        calls = CrewCalls(Parts(clock, crew, faults, humans, ledger, notes, settings.kickoff_delay))
        self._rooms = (calls, humans, ControlApi(clock, ledger, notes, faults, humans))

    def application(self) -> web.Application:
        """Return it as an application, ready to be started."""
        app = web.Application(middlewares=[_errors_as_detail, self._nudging], client_max_size=_MAX_BODY)
        for room in self._rooms:
            app.add_routes(room.routes())
        app.on_startup.append(self._start)
        app.on_cleanup.append(self._close)
        return app

    def listens_at(self, url: str) -> None:
        """Tell it the address under which it is reached."""
        self._writer.base_url = (self._settings.public_url or url).rstrip("/")

    async def _start(self, _app: web.Application) -> None:
        await self._sender.start()

    async def _close(self, _app: web.Application) -> None:
        await self._sender.stop()
        self._ledger.close()

    @web.middleware
    async def _nudging(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        # Nobody shall see what happened before the webhooks of it are on their way, also by a clock turned by hand.
        self._sender.nudge()
        return await handler(request)


@asynccontextmanager
async def running(settings: SandboxSettings, clock: Clock = time.time) -> AsyncIterator[str]:
    """Keep a sandbox running for the length of the `async with`; gives its base URL."""
    sandbox = Sandbox(settings, clock)
    runner = web.AppRunner(sandbox.application(), access_log=None, shutdown_timeout=_STOP_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        port: int = runner.addresses[0][1]
        url = f"http://{settings.host}:{port}"
        sandbox.listens_at(url)
        yield url
    finally:
        await runner.cleanup()


async def serve(settings: SandboxSettings, signal_completion: Callable[[str], None]) -> None:
    """Run a sandbox until cancelled; `signal_completion` is told the base URL as soon as it answers."""
    async with running(settings) as url:
        signal_completion(url)
        await asyncio.Event().wait()


@web.middleware
async def _errors_as_detail(request: web.Request, handler: _Handler) -> web.StreamResponse:
    # Unknown paths and wrong methods are told in the crew API's own shape; `GET /` is a 404 (contract 1, seen live).
    try:
        return await handler(request)
    except web.HTTPException as error:
        return respond(detail(error.status, error.reason))
