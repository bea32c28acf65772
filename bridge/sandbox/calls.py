"""Serve the calls of the crew API over HTTP: apply the fault, check the token, do the work, record it, respond.

The fault applies before the token check, like one in a gateway in front of the crew API.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from bridge.sandbox.crew import Crew, KickoffBody, read_body
from bridge.sandbox.execution import Execution
from bridge.sandbox.faults import NO_RESPONSE, UNRECORDED, Faults
from bridge.sandbox.humans import Humans
from bridge.sandbox.ledger import Entry, Ledger, Traffic
from bridge.sandbox.responses import Response, json_response
from bridge.sandbox.rules import Call, Fault
from bridge.sandbox.transmission import send

_NOT_READ = Response(500, b"")
_BODY_UNREAD = "reset_during"

_Work = Callable[[web.Request, Fault], Awaitable[Response]]
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Parts:
    """The dependencies of the call handlers."""

    clock: Callable[[], float]
    crew: Crew
    faults: Faults
    humans: Humans
    ledger: Ledger
    traffic: Traffic
    kickoff_delay: float


class CrewCalls:
    """Handle the crew API's calls; keep the kickoff ID reported last, for the fault `same_id`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._reported_id = parts.ledger.latest_id()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the crew API."""
        return [
            web.post("/kickoff", self._with_fault("kickoff", self._kickoff)),
            web.get("/status/{kickoff_id}", self._with_fault("status", self._status)),
            web.get("/inputs", self._with_fault("inputs", self._inputs)),
            web.post("/resume", self._with_fault("resume", self._resume)),
            web.post("/stop/{kickoff_id}", self._with_fault("stop", self._stop)),
        ]

    def _with_fault(self, call: Call, work: _Work) -> _Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            fault = self._parts.faults.next_for(call, await self._inputs_for_faults(call, request))
            if fault.kind in UNRECORDED:
                return await send(request, _NOT_READ, fault)
            response = await work(request, fault)
            if fault.seconds:
                await asyncio.sleep(fault.seconds)
            return await send(request, response, fault)

        return handler

    async def _inputs_for_faults(self, call: Call, request: web.Request) -> Mapping[str, object]:
        if call != "kickoff" or not self._parts.faults.depend_on_inputs:
            return {}  # a fault may prevent that the body is read
        body = read_body(await request.read())
        return {} if isinstance(body, Response) else body.inputs

    def _refusal(self, request: web.Request, fault: Fault) -> Response | None:
        return fault.response or self._parts.crew.refuse(request.headers.get("Authorization"))

    async def _kickoff(self, request: web.Request, fault: Fault) -> Response:
        body = _NOT_READ if fault.kind == _BODY_UNREAD else read_body(await request.read())
        response, entry = self._decide(request, body, fault)
        await self._parts.ledger.record(entry)
        if entry.execution is not None and isinstance(body, KickoffBody):
            self._parts.humans.start(entry.execution, body.hooks)
            if self._parts.kickoff_delay:
                await asyncio.sleep(self._parts.kickoff_delay)
        return response

    def _decide(self, request: web.Request, body: KickoffBody | Response, fault: Fault) -> tuple[Response, Entry]:
        number, now, execution = self._parts.ledger.next_number(), self._parts.clock(), None
        if refusal := self._refusal(request, fault):
            response = refusal
        elif isinstance(body, Response):
            response = body
        else:
            response, execution = self._parts.crew.kickoff(number, body, now)
            response = self._misreport_id(response, execution, fault)
        inputs, meta = (body.inputs, body.meta) if isinstance(body, KickoffBody) else (None, None)
        return response, Entry(number, now, _sent_code(response, fault), inputs, meta, execution)

    def _misreport_id(self, response: Response, execution: Execution | None, fault: Fault) -> Response:
        if execution is None:
            return response
        if fault.kind == "wrong_id":
            return json_response(200, {"kickoff_id": fault.wrong_id})
        if fault.kind == "same_id" and self._reported_id is not None:
            return json_response(200, {"kickoff_id": self._reported_id})
        self._reported_id = execution.kickoff_id
        return response

    async def _status(self, request: web.Request, fault: Fault) -> Response:
        kickoff_id, now = request.match_info["kickoff_id"], self._parts.clock()
        self._parts.ledger.count_poll(kickoff_id)
        if refusal := self._refusal(request, fault):
            return refusal
        execution = None if fault.kind == "not_found" else self._parts.ledger.execution(kickoff_id)
        if execution is None:
            return self._parts.crew.status(kickoff_id, None, now)
        shown = self._parts.crew.shown_at(execution, now)
        if execution.over(shown) and fault.kind not in NO_RESPONSE:
            self._parts.ledger.mark_reported(execution, now)
        return self._parts.crew.status(kickoff_id, execution, shown)

    async def _inputs(self, request: web.Request, fault: Fault) -> Response:
        return self._refusal(request, fault) or self._parts.crew.inputs()

    async def _resume(self, request: web.Request, fault: Fault) -> Response:
        raw = b"" if fault.kind == _BODY_UNREAD else await request.read()
        response, record = await self._parts.humans.resume(raw, self._refusal(request, fault))
        record["answered"] = _sent_code(response, fault)
        return response

    async def _stop(self, request: web.Request, fault: Fault) -> Response:
        kickoff_id, now = request.match_info["kickoff_id"], self._parts.clock()
        execution = self._parts.ledger.execution(kickoff_id)
        response = self._refusal(request, fault)
        if response is None:
            response = self._parts.crew.stop(kickoff_id, execution, now)
            if execution is not None and response.code == HTTPStatus.OK:
                await self._parts.ledger.update(execution)
        record = {"received_at": now, "kickoff_id": kickoff_id, "answered": _sent_code(response, fault)}
        self._parts.traffic.stops.append(record)
        return response


def _sent_code(response: Response, fault: Fault) -> int | None:
    return None if fault.kind in NO_RESPONSE else response.code
