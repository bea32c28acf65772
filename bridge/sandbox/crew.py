"""The deployment behind the API: which answer each call gets, as values and without a network.

Later calls (`/resume`, other dialects) belong here, beside the first three.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from bridge.sandbox.answers import INTERNAL_SERVER_ERROR, INVALID_TOKEN, NO_TOKEN, Answer, detail, json_answer
from bridge.sandbox.controls import read_controls
from bridge.sandbox.executions import Execution, Planner
from bridge.sandbox.settings import SandboxSettings
from bridge.sandbox.status import live_status


@dataclass(frozen=True, slots=True)
class KickoffBody:
    """What a kickoff asks for; `inputs` is empty when the body has no such member."""

    inputs: Mapping[str, object]
    meta: object


def read_body(raw: bytes) -> KickoffBody | Answer:
    """Read the body of a kickoff, or return the refusal of what cannot be read (crew API contract 3.3).

    Only what is under `inputs` counts: a bare body is a kickoff without inputs. The webhook members are ignored so far.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return INTERNAL_SERVER_ERROR
    if not isinstance(body, dict):
        return _not_an_object("body")
    inputs = body.get("inputs")
    if inputs is not None and not isinstance(inputs, dict):
        return _not_an_object("body", "inputs")
    return KickoffBody(inputs or {}, body.get("meta"))


class Crew:
    """A deployed crew or flow, as its callers see it."""

    def __init__(self, settings: SandboxSettings, planner: Planner) -> None:
        self._settings = settings
        self._planner = planner
        self._bearer = f"Bearer {settings.token}"

    def refuse(self, authorization: str | None) -> Answer | None:
        """Return the 401 for a header that does not open the door, None for one that does (contract 1, seen live)."""
        if authorization is None:
            return NO_TOKEN
        return None if authorization == self._bearer else INVALID_TOKEN

    def inputs(self) -> Answer:
        """List the inputs by name (crew API contract 2)."""
        return json_answer(200, {"inputs": self._settings.inputs})

    def kickoff(self, number: int, body: KickoffBody, now: float) -> tuple[Answer, Execution | None]:
        """Start the execution of the kickoff with this number, or refuse; return the answer and what was started."""
        # A flow has defaults for all its state, so nothing can be missing (crew API contract 3.3).
        needed = self._settings.inputs if self._settings.kind == "crew" else ()
        if missing := [name for name in needed if name not in body.inputs]:
            return detail(422, f"Missing inputs: {', '.join(missing)}"), None
        try:
            controls = read_controls(body.inputs)
        except ValueError as error:
            return detail(422, str(error)), None
        execution = self._planner.plan(str(uuid.uuid4()), number, body.inputs, body.meta, controls, now)
        return json_answer(200, {"kickoff_id": execution.kickoff_id}), execution

    def status(self, execution: Execution | None, now: float) -> Answer:
        """Say how an execution is doing; an unknown one is a 200 as well."""
        return json_answer(200, live_status(execution, self._settings.kind, now))


def _not_an_object(*where: str) -> Answer:
    # The shape of a schema error was seen live on another call; that it is the same here is an assumption.
    return detail(422, [{"type": "dict_type", "loc": where, "msg": "Input should be a valid dictionary"}])
