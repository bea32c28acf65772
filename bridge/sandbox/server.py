"""The sandbox on the network: routes, faults on the way in and out, start and stop.

The routes that begin with `/_` are the sandbox's own and need no token: `/_ledger` (GET, DELETE) tells what reached it,
`/_faults` (GET, POST, DELETE) spoils what comes next.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from bridge.sandbox.answers import Answer, detail, json_answer
from bridge.sandbox.crew import Crew, KickoffBody, read_body
from bridge.sandbox.executions import Planner
from bridge.sandbox.faults import Call, Fault, Faults, read_rules
from bridge.sandbox.ledger import Entry, Ledger
from bridge.sandbox.settings import SandboxSettings

Clock = Callable[[], float]
"""Returns the present moment in epoch seconds."""

_MAX_BODY = 64 * 1024 * 1024
_STOP_SECONDS = 0.1  # long enough for what is being answered, too short for who waits for a delay

_Work = Callable[[web.Request, Fault], Awaitable[Answer]]


class Sandbox:
    """The handlers. Each call meets its fault first, as at a gateway in front of the real thing, then the token."""

    def __init__(self, settings: SandboxSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._ledger = Ledger(settings.ledger_file)
        busy_until = (execution.ends_at for execution in self._ledger.executions())
        self._crew = Crew(settings, Planner(settings, busy_until))
        rates: dict[Call, float] = {"kickoff": settings.kickoff_fault_rate, "status": settings.status_fault_rate}
        self._faults = Faults(rates, settings.seed)

    def routes(self) -> list[web.RouteDef]:
        """Return every route the sandbox answers on."""
        return [
            web.post("/kickoff", self._spoiled("kickoff", self._kickoff)),
            web.get("/status/{kickoff_id}", self._spoiled("status", self._status)),
            web.get("/inputs", self._spoiled("inputs", self._inputs)),
            web.get("/_ledger", self._show_ledger),
            web.delete("/_ledger", self._clear_ledger),
            web.get("/_faults", self._show_faults),
            web.post("/_faults", self._add_faults),
            web.delete("/_faults", self._clear_faults),
        ]

    async def close(self, _app: web.Application) -> None:
        """Let go of the ledger's file."""
        self._ledger.close()

    def _spoiled(self, call: Call, work: _Work) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(request: web.Request) -> web.Response:
            fault = self._faults.next_for(call)
            if fault.hang_up == "before":
                return _hang_up(request)
            answer = await work(request, fault)
            if fault.seconds:
                await asyncio.sleep(fault.seconds)
            return _hang_up(request) if fault.hang_up == "after" else _respond(answer)

        return handler

    async def _kickoff(self, request: web.Request, fault: Fault) -> Answer:
        body = read_body(await request.read())
        answer, entry = self._decide(request, body, fault)
        await self._ledger.record(entry)
        if entry.execution is not None and self._settings.kickoff_delay:
            await asyncio.sleep(self._settings.kickoff_delay)
        return answer

    def _decide(self, request: web.Request, body: KickoffBody | Answer, fault: Fault) -> tuple[Answer, Entry]:
        number, now, execution = self._ledger.next_number(), self._clock(), None
        if refusal := fault.instead or self._crew.refuse(request.headers.get("Authorization")):
            answer = refusal
        elif isinstance(body, Answer):
            answer = body
        else:
            answer, execution = self._crew.kickoff(number, body, now)
        answered = None if fault.hang_up else answer.code
        inputs, meta = (body.inputs, body.meta) if isinstance(body, KickoffBody) else (None, None)
        return answer, Entry(number, now, answered, inputs, meta, execution)

    async def _status(self, request: web.Request, fault: Fault) -> Answer:
        kickoff_id, now = request.match_info["kickoff_id"], self._clock()
        self._ledger.look(kickoff_id)
        if refusal := fault.instead or self._crew.refuse(request.headers.get("Authorization")):
            return refusal
        execution = self._ledger.execution(kickoff_id)
        if execution is not None:
            self._ledger.saw(execution, now)
        return self._crew.status(execution, now)

    async def _inputs(self, request: web.Request, fault: Fault) -> Answer:
        return fault.instead or self._crew.refuse(request.headers.get("Authorization")) or self._crew.inputs()

    async def _show_ledger(self, _request: web.Request) -> web.Response:
        return _respond(json_answer(200, self._ledger.report(self._clock())))

    async def _clear_ledger(self, _request: web.Request) -> web.Response:
        await self._ledger.clear(self._clock())
        return web.Response(status=204)

    async def _show_faults(self, _request: web.Request) -> web.Response:
        return _respond(json_answer(200, self._faults.report()))

    async def _add_faults(self, request: web.Request) -> web.Response:
        try:
            self._faults.add(read_rules(await request.read()))
        except ValueError as error:
            return _respond(detail(422, str(error)))
        return _respond(json_answer(200, self._faults.report()))

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._faults.clear()
        return web.Response(status=204)


def create_app(settings: SandboxSettings, clock: Clock = time.time) -> web.Application:
    """Build the sandbox as an application that lives by the given clock."""
    sandbox = Sandbox(settings, clock)
    app = web.Application(middlewares=[_errors_as_detail], client_max_size=_MAX_BODY)
    app.add_routes(sandbox.routes())
    app.on_cleanup.append(sandbox.close)
    return app


@asynccontextmanager
async def running(settings: SandboxSettings, clock: Clock = time.time) -> AsyncIterator[str]:
    """Keep a sandbox running for the length of the `async with`; gives its base URL."""
    runner = web.AppRunner(create_app(settings, clock), access_log=None, shutdown_timeout=_STOP_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        port: int = runner.addresses[0][1]
        yield f"http://{settings.host}:{port}"
    finally:
        await runner.cleanup()


async def serve(settings: SandboxSettings, announce: Callable[[str], None]) -> None:
    """Run a sandbox until cancelled; `announce` is told the base URL as soon as it answers."""
    async with running(settings) as url:
        announce(url)
        await asyncio.Event().wait()


@web.middleware
async def _errors_as_detail(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    # Unknown paths and wrong methods are told in the crew API's own shape; `GET /` is a 404 (contract 1, seen live).
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _respond(detail(error.status, error.reason))


def _respond(answer: Answer) -> web.Response:
    headers = {"Content-Type": answer.content_type, **answer.headers}
    return web.Response(status=answer.code, body=answer.body, headers=headers)


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.close()
    return web.Response()  # a handler must return something; it goes nowhere
