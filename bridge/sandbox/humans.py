"""Handle human input: list open questions, apply answers, and schedule the webhooks that follow.

The state of a question is in its execution. This module keeps only the webhook addresses of flows, because no later
call repeats them; for a crew, the resume that continues it names its own (crew API contract 5.3).
"""

from collections.abc import Callable

from aiohttp import web

from bridge.sandbox import flow_question
from bridge.sandbox.crew import Crew
from bridge.sandbox.execution import Execution, Kind
from bridge.sandbox.hooks import Hooks
from bridge.sandbox.ledger import Ledger, Record, Traffic
from bridge.sandbox.responses import Response, detail, json_response
from bridge.sandbox.resume import Effect, ResumeBody, parsed, read_resume, resume
from bridge.sandbox.sender import Sender
from bridge.sandbox.transmission import respond
from bridge.sandbox.webhooks import Writer


class Humans:
    """Applies answers to executions; keeps the webhook addresses of flows."""

    def __init__(
        self,
        kind: Kind,
        clock: Callable[[], float],
        crew: Crew,
        ledger: Ledger,
        traffic: Traffic,
        writer: Writer,
        sender: Sender,
    ) -> None:
        self._kind = kind
        self._clock = clock
        self._crew = crew
        self._ledger = ledger
        self._traffic = traffic
        self._writer = writer
        self._sender = sender
        self._flow_hooks: dict[str, Hooks] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the route for answers to a flow's questions; its token is in the URL."""
        return [web.post("/human_feedback_requests/{request_id}/respond", self._respond)]

    def start(self, execution: Execution, hooks: Hooks) -> None:
        """Schedule the webhooks of this execution up to its first pause or its end."""
        if self._kind == "flow" and execution.questions and hooks != Hooks():
            self._flow_hooks[execution.kickoff_id] = hooks
        self._schedule_webhooks(execution, hooks)

    def waiting(self, now: float) -> list[Record]:
        """Return a row for each waiting execution, with everything needed to answer it."""
        return [self._waiting_row(execution) for execution in self._ledger.executions() if execution.waiting(now)]

    async def resume(self, raw: bytes, refusal: Response | None) -> tuple[Response, Record]:
        """Apply the body of a `/resume`; return the response and its record."""
        now, effect = self._clock(), "no_effect"
        body = read_resume(raw)
        if refusal is not None:
            response = refusal
        elif self._kind == "flow":
            response = detail(404, "Not Found")  # a flow has no such path (seen in the field)
        elif isinstance(body, Response):
            response = body
        else:
            execution = self._ledger.execution(body.execution_id)
            response = self._crew.resumed(execution)
            effect = await self._apply_resume(execution, body, now)
        record: Record = {"received_at": now, "body": parsed(raw), "effect": effect}
        self._traffic.resumes.append(record)
        return response, record

    async def _apply_resume(self, execution: Execution | None, body: ResumeBody, now: float) -> Effect:
        effect = resume(execution, body, now)
        if execution is not None and effect != "no_effect":
            await self._ledger.update(execution)
            self._schedule_webhooks(execution, body.hooks)
        return effect

    async def _respond(self, request: web.Request) -> web.Response:
        raw, now = await request.read(), self._clock()
        response = await self._answer_flow(request.match_info["request_id"], request.query.get("token"), raw, now)
        record = {"received_at": now, "request_id": request.match_info["request_id"], "body": parsed(raw)}
        self._traffic.flow_responses.append({**record, "answered": response.code})
        return respond(response)

    async def _answer_flow(self, request_id: str, token: str | None, raw: bytes, now: float) -> Response:
        # The codes are assumptions: the response of the real API to a late or invalid answer is unknown.
        body, execution = parsed(raw), self._waiting_on(request_id, now)
        if execution is None:
            return detail(404, "Feedback request not found or already answered")
        if token != flow_question.token(execution):
            return detail(401, "Invalid token")
        if not isinstance(body, dict) or not isinstance(body.get("feedback"), str) or not body["feedback"].strip():
            return detail(422, "feedback is required")
        execution.resume(now)
        await self._ledger.update(execution)
        self._schedule_webhooks(execution, self._flow_hooks.get(execution.kickoff_id, Hooks()))
        return json_response(200, {"status": "received"})

    def _waiting_on(self, request_id: str, now: float) -> Execution | None:
        if self._kind != "flow":
            return None
        waiting = (execution for execution in self._ledger.executions() if execution.waiting(now))
        return next((execution for execution in waiting if execution.question_id == request_id), None)

    def _schedule_webhooks(self, execution: Execution, hooks: Hooks) -> None:
        self._sender.schedule(execution, self._writer.webhooks(execution, hooks))

    def _waiting_row(self, execution: Execution) -> Record:
        row: Record = {
            "kickoff_id": execution.kickoff_id,
            "since": execution.pauses_at,
            "task_id": execution.question_id,
        }
        if self._kind == "flow":
            row["callback_url"] = flow_question.callback_url(execution, self._writer.base_url)
        return row
