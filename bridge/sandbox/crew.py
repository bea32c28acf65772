"""Decide the response to each call of the crew API, without a network."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bridge.sandbox.controls import read_controls
from bridge.sandbox.dialects import Body, is_terminal, status_response
from bridge.sandbox.exact_json import read_json
from bridge.sandbox.execution import Execution
from bridge.sandbox.flow_state import invalid_id, restored
from bridge.sandbox.hooks import Hooks, read_hooks
from bridge.sandbox.inputs import Inputs
from bridge.sandbox.planner import Planner
from bridge.sandbox.responses import INTERNAL_SERVER_ERROR, INVALID_TOKEN, NO_TOKEN, Response, detail, json_response
from bridge.sandbox.script import Script
from bridge.sandbox.settings import SandboxSettings
from bridge.sandbox.status import failed, live_status

_LOST_CONTINUATION = "'NoneType' object is not subscriptable"  # what every resumed id ended with in one live test


@dataclass(frozen=True, slots=True)
class KickoffBody:
    """The content of a kickoff; `inputs` is empty when the body has no such member."""

    inputs: Mapping[str, object]
    meta: object
    hooks: Hooks
    restore_from: object = None


def read_body(raw: bytes) -> KickoffBody | Response:
    """Read the body of a kickoff, or return the error response if it is invalid (crew API contract 3.3).

    Only the member `inputs` is read: a bare body is a kickoff without inputs.
    """
    try:
        body = read_json(raw)
    except ValueError:
        return INTERNAL_SERVER_ERROR
    if not isinstance(body, dict):
        return _not_an_object("body")
    inputs = body.get("inputs")
    if inputs is not None and not isinstance(inputs, dict):
        return _not_an_object("body", "inputs")
    return KickoffBody(inputs or {}, body.get("meta"), read_hooks(body), body.get("restoreFromStateId"))


class Crew:
    """A deployed crew or flow; keeps its inputs, the number of executions, and the IDs that resumes returned."""

    def __init__(
        self,
        settings: SandboxSettings,
        planner: Planner,
        executions: Callable[[], Iterable[Execution]],
        script: Script,
    ) -> None:
        self._settings = settings
        self._planner = planner
        self._executions = executions
        self._script = script
        self._started = sum(1 for _ in executions())
        self._bearer = f"Bearer {settings.token}"
        self._resumed: dict[str, Execution | None] = {}
        self._inputs = Inputs(settings.inputs, settings.required_inputs)

    def refuse(self, authorization: str | None) -> Response | None:
        """Return a 401 response unless the header holds the token (contract 1, observed live)."""
        if authorization == self._bearer:
            return None
        if self._settings.dialect == "reference":
            return json_response(401, {"error": "Unauthorized", "message": "Invalid or missing bearer token"})
        return NO_TOKEN if authorization is None else INVALID_TOKEN

    def inputs(self) -> Response:
        """List the inputs (crew API contract 2)."""
        return self._inputs.response(self._settings.inputs_shape, self._settings.kind)

    def deploy(self, inputs: Inputs) -> None:
        """Replace the inputs, as a deploy that renames one does; executions in progress continue."""
        self._inputs = inputs

    def kickoff(self, number: int, body: KickoffBody, now: float) -> tuple[Response, Execution | None]:
        """Start an execution for the kickoff with this number, or refuse it; return the response and the execution."""
        if refusal := self._missing(body) or self._invalid_id(body) or self._over_quota():
            return refusal, None
        try:
            controls = read_controls(self._script.with_controls(body.inputs))
        except ValueError as error:
            return detail(422, str(error)), None
        execution = self._planner.plan(str(uuid.uuid4()), number, body.inputs, body.meta, controls, now)
        if self._settings.kind == "flow":
            execution.restore_from = body.restore_from
            state_id = body.restore_from or body.inputs.get("id")  # the second restores too, but is deprecated
            execution.restored = restored(self._executions(), state_id, now)
        self._started += 1
        return json_response(200, {"kickoff_id": execution.kickoff_id}), execution

    def shown_at(self, execution: Execution, now: float) -> float:
        """Return the time whose state `/status` shows now: a crew writes it some time after its events."""
        return max(now - self._settings.status_lag, min(now, execution.starts_at))

    def status(self, kickoff_id: str, execution: Execution | None, now: float) -> Response:
        """Return the status of an execution; the live API responds 200 even for an unknown ID."""
        if execution is None and kickoff_id in self._resumed:
            return self._resumed_status(kickoff_id, now)
        return status_response(self._settings.dialect, kickoff_id, self._live(execution, now), execution)

    def resumed(self, execution: Execution | None) -> Response:
        """Return 200 with a new ID whatever the resume did, even for an invented ID (observed live)."""
        new_id = str(uuid.uuid4())
        if self._settings.resumed_status != "not_found":
            self._resumed[new_id] = execution
        return json_response(200, {"kickoff_id": new_id})

    def stop(self, kickoff_id: str, execution: Execution | None, now: float) -> Response:
        """Stop an execution, or return why it cannot (contract 3.5, from an unmerged page; the 404 is assumed)."""
        if not self._settings.stop:
            return detail(404, "Not Found")
        if execution is None:
            return detail(404, "Execution not found")
        body = live_status(execution, self._settings.kind, now, "paused")
        if is_terminal(body):
            return detail(400, f"Cannot stop execution. Current state: {body['state']}")
        execution.stop(now)
        return json_response(200, {"status": "stopped", "kickoffId": kickoff_id})

    def _live(self, execution: Execution | None, now: float) -> Body:
        # The reference has no state for waiting; render it as running.
        human_status = "paused" if self._settings.dialect == "reference" else self._settings.human_status
        return live_status(execution, self._settings.kind, now, human_status)

    def _resumed_status(self, kickoff_id: str, now: float) -> Response:
        # Which of the two the real API does is unknown; the origin is documented only.
        execution = self._resumed[kickoff_id]
        body = self._live(execution, now)
        if self._settings.resumed_status == "failed" or execution is None:
            body = failed(_LOST_CONTINUATION)
        return status_response("live", kickoff_id, {**body, "execution_origin": "hitl-resume"}, execution)

    def _missing(self, body: KickoffBody) -> Response | None:
        # The refusal of a flow is assumed to be that of a crew, which was seen live (crew API contract 3.3).
        missing = self._inputs.missing(self._settings.kind, body.inputs)
        if not missing:
            return None
        if self._settings.dialect == "reference":
            error = {"error": "Validation Error", "message": "Missing required inputs"}
            return json_response(422, {**error, "details": {"missing_inputs": missing}})
        return detail(422, f"Missing inputs: {', '.join(missing)}")

    def _invalid_id(self, body: KickoffBody) -> Response | None:
        if self._settings.kind == "flow" and (message := invalid_id(body.inputs)):
            return json_response(422, {"error": "Validation Error", "message": message})
        return None

    def _over_quota(self) -> Response | None:
        # Only parts of the text are known, from the field; the code is an assumption (crew API contract 8).
        quota = self._settings.quota
        if quota is None or self._started < quota:
            return None
        return detail(403, f"You have reached your monthly execution limit of {quota} executions.")


def _not_an_object(*where: str) -> Response:
    # The shape of a schema error was seen live on another call; that it is the same here is an assumption.
    return detail(422, [{"type": "dict_type", "loc": where, "msg": "Input should be a valid dictionary"}])
