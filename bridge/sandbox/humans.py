"""People in the way of executions: who is asked, by which webhook, and what their answers do.

The state of a question is in its execution; here is only where the webhooks of a flow go after an answer, as no later
call names them again. For a crew only the resume that moves it on says so (crew API contract 5.3).
"""

from collections.abc import Callable

from aiohttp import web

from bridge.sandbox import flow_question
from bridge.sandbox.answers import Response, detail, json_response
from bridge.sandbox.crew import Crew
from bridge.sandbox.execution import Execution
from bridge.sandbox.hooks import Hooks
from bridge.sandbox.ledger import Ledger
from bridge.sandbox.notes import Note, Notes
from bridge.sandbox.replies import respond
from bridge.sandbox.resume import Effect, ResumeBody, parsed, read_resume, resume
from bridge.sandbox.sender import Sender
from bridge.sandbox.settings import Kind
from bridge.sandbox.webhooks import Writer


class Humans:
    """Takes answers, lets executions go on, and sends the webhooks of what comes next."""

    def __init__(
        self,
        kind: Kind,
        clock: Callable[[], float],
        crew: Crew,
        ledger: Ledger,
        notes: Notes,
        writer: Writer,
        sender: Sender,
    ) -> None:
        self._kind = kind
        self._clock = clock
        self._crew = crew
        self._ledger = ledger
        self._notes = notes
        self._writer = writer
        self._sender = sender
        self._flow_hooks: dict[str, Hooks] = {}

    def routes(self) -> list[web.RouteDef]:
        """Return the route that takes the answers to a flow's questions; its token is in the address."""
        return [web.post("/human_feedback_requests/{request_id}/respond", self._respond)]

    def began(self, execution: Execution, hooks: Hooks) -> None:
        """Send what this execution will write until it pauses or ends."""
        if self._kind == "flow" and execution.questions and hooks != Hooks():
            self._flow_hooks[execution.kickoff_id] = hooks
        self._post(execution, hooks)

    def waiting(self, now: float) -> list[Note]:
        """Return one row for every execution that waits, with all that is needed to answer it."""
        return [self._row(execution) for execution in self._ledger.executions() if execution.waiting(now)]

    async def resume(self, raw: bytes, refusal: Response | None) -> tuple[Response, Note]:
        """Deal with the body of a `/resume`; return the answer and the note of it."""
        now, effect = self._clock(), "no_effect"
        body = read_resume(raw)
        if refusal is not None or isinstance(body, Response):
            answer = refusal or body
        else:
            execution = self._ledger.execution(body.execution_id)
            answer = self._crew.resumed(execution)
            effect = await self._moved_on(execution, body, now)
        note: Note = {"received_at": now, "body": parsed(raw), "effect": effect}
        self._notes.resumes.append(note)
        assert isinstance(answer, Response)
        return answer, note

    async def _moved_on(self, execution: Execution | None, body: ResumeBody, now: float) -> Effect:
        effect = resume(execution if self._kind == "crew" else None, body, now)
        if execution is not None and effect != "no_effect":
            await self._ledger.changed(execution)
            self._post(execution, body.hooks)
        return effect

    async def _respond(self, request: web.Request) -> web.Response:
        raw, now = await request.read(), self._clock()
        answer = await self._answer_flow(request.match_info["request_id"], request.query.get("token"), raw, now)
        note = {"received_at": now, "request_id": request.match_info["request_id"], "body": parsed(raw)}
        self._notes.flow_answers.append({**note, "answered": answer.code})
        return respond(answer)

    async def _answer_flow(self, request_id: str, token: str | None, raw: bytes, now: float) -> Response:
        # The codes are assumptions: what the real thing says to a late or wrong answer is not known.
        body, execution = parsed(raw), self._asked(request_id, now)
        if execution is None:
            return detail(404, "Feedback request not found or already answered")
        if token != flow_question.token(execution):
            return detail(401, "Invalid token")
        if not isinstance(body, dict) or not isinstance(body.get("feedback"), str) or not body["feedback"].strip():
            return detail(422, "feedback is required")
        execution.go_on(now)
        await self._ledger.changed(execution)
        self._post(execution, self._flow_hooks.get(execution.kickoff_id, Hooks()))
        return json_response(200, {"status": "received"})

    def _asked(self, request_id: str, now: float) -> Execution | None:
        if self._kind != "flow":
            return None
        waiting = (execution for execution in self._ledger.executions() if execution.waiting(now))
        return next((execution for execution in waiting if execution.question_id == request_id), None)

    def _post(self, execution: Execution, hooks: Hooks) -> None:
        self._sender.take(execution, self._writer.webhooks(execution, hooks))

    def _row(self, execution: Execution) -> Note:
        row: Note = {
            "kickoff_id": execution.kickoff_id,
            "since": execution.pauses_at,
            "task_id": execution.question_id,
        }
        if self._kind == "flow":
            row["callback_url"] = flow_question.callback_url(execution, self._writer.base_url)
        return row
