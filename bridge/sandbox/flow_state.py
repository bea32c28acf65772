"""The state of a flow: what a kickoff restores, and under which id it is saved (crew API contract 3.5 and 3.7).

A restore leaves no sign: an ID that is unknown, of a run that has not succeeded, or replaced by the `inputs.id` of its
kickoff starts from the defaults, like no restore at all (observed live).
"""

import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress

from bridge.sandbox.execution import Execution


def invalid_id(inputs: Mapping[str, object]) -> str | None:
    """Return the API's message if `inputs.id` is not a UUID, else None (seen by CrewAI's engineers)."""
    state_id = inputs.get("id")
    if state_id is None:
        return None
    with suppress(ValueError):
        uuid.UUID(str(state_id))
        return None
    return f"'inputs.id' must be a valid UUID when provided; got {state_id!r}."


def restored(executions: Iterable[Execution], state_id: object, now: float) -> Mapping[str, object]:
    """Return the state that the last success with this state id saved; empty if there is none."""
    saved = [each for each in executions if each.state_id == state_id and each.succeeded(now)]
    return saved[-1].state if saved else {}
