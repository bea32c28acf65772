"""Stage what is hard to reproduce: `POST /_emit` submits a run that really gets into a situation.

The sandbox that serves this route provokes it; nothing else of the bridge is different.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiohttp import ClientSession, web

from bridge.adapters.clock import wall_clock
from bridge.adapters.http import problems
from bridge.core.delivery import events
from bridge.core.delivery.model import Channel, Destination, Receiver
from bridge.core.delivery.receivers import PAUSE_AFTER, receiver_name
from bridge.core.errors import RequestRefused
from bridge.core.json import check_members, parse_object
from bridge.local.start import Local
from bridge.sandbox.rules import FaultKind

MEMBERS = frozenset({"situation", "crew", "inputs", "callback_url", "meta"})
UNAVAILABLE = "/_unavailable"
"""The path of a callback receiver that refuses every event."""


FAILING_FOR = PAUSE_AFTER + 3600.0  # seconds; more, because clocks may differ a little
TAG = "sandbox_tag"
"""An additional input that distinguishes a staged run from all others."""


@dataclass(frozen=True, slots=True)
class Situation:
    """The type of the event that reports a situation, and what leads to it.

    `inputs`: those that control the execution; `kickoff_fault`: what happens to the first kickoff.
    """

    event: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    deadline: str | None = None
    kickoff_fault: FaultKind | None = None


SITUATIONS: Mapping[str, Situation] = {
    "in_doubt": Situation(events.IN_DOUBT, kickoff_fault="hang_up_before"),
    "timed_out": Situation("run.timed_out", {"sandbox_seconds": 86_400}, "500ms"),
    "late_result": Situation(events.LATE_RESULT, {"sandbox_seconds": 4}, "500ms"),
    "waiting_for_human": Situation(events.WAITING_FOR_HUMAN, {"sandbox_human_questions": 1}),
    "receiver_paused": Situation(events.PAUSED, {"sandbox_seconds": 0.3}),
}


class Situations:
    """Handles the requests of testers. `inputs`: the names that a request of these `crews` must have."""

    def __init__(self, crews: Sequence[str], inputs: Sequence[str]) -> None:
        self._crews = crews
        self._inputs = inputs
        self._local: Local | None = None

    def use(self, local: Local) -> None:
        """Submit runs to this bridge; call it before the URL of the sandbox is published."""
        self._local = local

    def routes(self) -> list[web.RouteDef]:
        """Return the routes for the sandbox."""
        return [web.post("/_emit", self._emit), web.post(UNAVAILABLE, _refuse)]

    async def _emit(self, request: web.Request) -> web.Response:
        try:
            name, body = read(await request.read(), self._crews, self._inputs)
        except RequestRefused as refused:
            problem = problems.from_exception(refused)
            assert problem is not None
            return problem.response()
        assert self._local is not None
        situation, crew_api = SITUATIONS[name], self._local.crew_apis[0]
        if situation.event == events.PAUSED:
            body.setdefault("callback_url", crew_api + UNAVAILABLE)
        async with ClientSession() as http:
            if situation.kickoff_fault is not None:
                rule = {"on": "kickoff", "do": situation.kickoff_fault, "inputs": {TAG: body["inputs"][TAG]}}
                (await http.post(f"{crew_api}/_faults", json=rule)).raise_for_status()
            async with http.post(f"{self._local.url}/v1/runs", json=body) as response:
                if response.status >= 400:  # noqa: PLR2004 - the boundary of HTTP errors
                    problem_body, kind = await response.read(), response.content_type
                    return web.Response(body=problem_body, status=response.status, content_type=kind)
                run = await response.json()
        staged = {"run_id": run["run_id"], "crew": run["crew"], "event": situation.event}
        if situation.event == events.PAUSED:
            staged["receiver"] = await self._fail_for_days(body["callback_url"])
        return web.json_response(staged, status=202)

    async def _fail_for_days(self, callback_url: str) -> str:
        """Let the bridge know that a receiver has failed for days; the next attempt that fails really pauses it."""
        assert self._local is not None
        receiver = receiver_name(Destination(Channel.CALLBACK, callback_url))
        assert receiver is not None
        await self._local.bridge.store.deliveries.store_receiver(Receiver(receiver, wall_clock() - FAILING_FOR))
        return receiver


def read(raw: bytes, crews: Sequence[str], inputs: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the situation that a request names, and the body of the kickoff request; raise `RequestRefused`."""
    body = {member: value for member, value in parse_object(raw).items() if value is not None}
    check_members(body, MEMBERS)
    name = body.pop("situation", None)
    situation = SITUATIONS.get(name) if isinstance(name, str) else None
    if situation is None:
        raise RequestRefused("invalid_request", f"must be one of {', '.join(SITUATIONS)}", "situation")
    given = body.get("inputs", {})
    if not isinstance(given, dict):
        raise RequestRefused("invalid_request", "must be a JSON object", "inputs")
    own = {**situation.inputs, TAG: str(uuid4())}
    if taken := own.keys() & given.keys():
        raise RequestRefused("invalid_request", f"must not be given, because {name} sets it", f"inputs.{min(taken)}")
    body["inputs"] = {**dict.fromkeys(inputs, f"staged: {name}"), **given, **own}
    if situation.deadline is not None:
        body["deadline"] = situation.deadline
    return name, {"crew": crews[0], **body}


async def _refuse(_request: web.Request) -> web.Response:
    return web.Response(status=503)
