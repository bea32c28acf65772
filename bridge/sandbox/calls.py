"""The calls of the crew API on the network: fault, token, work, a note of it, and the answer.

Each call meets its fault first, as at a gateway in front of the real thing, then the token.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from bridge.sandbox.answers import Response, json_response
from bridge.sandbox.crew import Crew, KickoffBody, read_body
from bridge.sandbox.execution import Execution
from bridge.sandbox.faults import UNTOLD, UNTRACED, Faults
from bridge.sandbox.humans import Humans
from bridge.sandbox.ledger import Entry, Ledger
from bridge.sandbox.notes import Notes
from bridge.sandbox.replies import reply
from bridge.sandbox.rules import Call, Fault

_NOT_READ = Response(500, b"")
_SEEN_ONLY = "reset_during"

_Work = Callable[[web.Request, Fault], Awaitable[Response]]
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the calls work with."""

    clock: Callable[[], float]
    crew: Crew
    faults: Faults
    humans: Humans
    ledger: Ledger
    notes: Notes
    kickoff_delay: float


class CrewCalls:
    """The handlers of the crew API."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._told_id = parts.ledger.latest_id()

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of the crew API."""
        return [
            web.post("/kickoff", self._spoiled("kickoff", self._kickoff)),
            web.get("/status/{kickoff_id}", self._spoiled("status", self._status)),
            web.get("/inputs", self._spoiled("inputs", self._inputs)),
            web.post("/resume", self._spoiled("resume", self._resume)),
            web.post("/stop/{kickoff_id}", self._spoiled("stop", self._stop)),
        ]

    def _spoiled(self, call: Call, work: _Work) -> _Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            fault = self._parts.faults.next_for(call)
            if fault.kind in UNTRACED:
                return await reply(request, _NOT_READ, fault)
            answer = await work(request, fault)
            if fault.seconds:
                await asyncio.sleep(fault.seconds)
            return await reply(request, answer, fault)

        return handler

    def _refusal(self, request: web.Request, fault: Fault) -> Response | None:
        return fault.instead or self._parts.crew.refuse(request.headers.get("Authorization"))

    async def _kickoff(self, request: web.Request, fault: Fault) -> Response:
        body = _NOT_READ if fault.kind == _SEEN_ONLY else read_body(await request.read())
        answer, entry = self._decide(request, body, fault)
        await self._parts.ledger.record(entry)
        if entry.execution is not None and isinstance(body, KickoffBody):
            self._parts.humans.began(entry.execution, body.hooks)
            if self._parts.kickoff_delay:
                await asyncio.sleep(self._parts.kickoff_delay)
        return answer

    def _decide(self, request: web.Request, body: KickoffBody | Response, fault: Fault) -> tuple[Response, Entry]:
        number, now, execution = self._parts.ledger.next_number(), self._parts.clock(), None
        if refusal := self._refusal(request, fault):
            answer = refusal
        elif isinstance(body, Response):
            answer = body
        else:
            answer, execution = self._parts.crew.kickoff(number, body, now)
            answer = self._misled(answer, execution, fault)
        inputs, meta = (body.inputs, body.meta) if isinstance(body, KickoffBody) else (None, None)
        return answer, Entry(number, now, _told(answer, fault), inputs, meta, execution)

    def _misled(self, answer: Response, execution: Execution | None, fault: Fault) -> Response:
        if execution is None:
            return answer
        if fault.kind == "wrong_id":
            return json_response(200, {"kickoff_id": fault.wrong_id})
        if fault.kind == "same_id" and self._told_id is not None:
            return json_response(200, {"kickoff_id": self._told_id})
        self._told_id = execution.kickoff_id
        return answer

    async def _status(self, request: web.Request, fault: Fault) -> Response:
        kickoff_id, now = request.match_info["kickoff_id"], self._parts.clock()
        self._parts.ledger.look(kickoff_id)
        if refusal := self._refusal(request, fault):
            return refusal
        execution = None if fault.kind == "not_found" else self._parts.ledger.execution(kickoff_id)
        if execution is not None and fault.kind not in UNTOLD:
            self._parts.ledger.saw(execution, now)
        return self._parts.crew.status(kickoff_id, execution, now)

    async def _inputs(self, request: web.Request, fault: Fault) -> Response:
        return self._refusal(request, fault) or self._parts.crew.inputs()

    async def _resume(self, request: web.Request, fault: Fault) -> Response:
        raw = b"" if fault.kind == _SEEN_ONLY else await request.read()
        answer, note = await self._parts.humans.resume(raw, self._refusal(request, fault))
        note["answered"] = _told(answer, fault)
        return answer

    async def _stop(self, request: web.Request, fault: Fault) -> Response:
        kickoff_id, now = request.match_info["kickoff_id"], self._parts.clock()
        execution = self._parts.ledger.execution(kickoff_id)
        answer = self._refusal(request, fault)
        if answer is None:
            answer = self._parts.crew.stop(kickoff_id, execution, now)
            if execution is not None and answer.code == HTTPStatus.OK:
                await self._parts.ledger.changed(execution)
        note = {"received_at": now, "kickoff_id": kickoff_id, "answered": _told(answer, fault)}
        self._parts.notes.stops.append(note)
        return answer


def _told(answer: Response, fault: Fault) -> int | None:
    return None if fault.kind in UNTOLD else answer.code
