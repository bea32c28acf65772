"""Build the events and the envelope of the streaming webhook (crew API contract 6.5).

Events carry no `meta`; those of an inner flow carry their own execution ID. A crew ends with `crew_kickoff_completed`
or `crew_kickoff_failed` (both observed live), a flow with `flow_finished`. A failed flow emits only its failed
method event: `flow_failed` is not in the documented list.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge.sandbox.execution import TASKS, Execution, Kind
from bridge.sandbox.hooks import Stream
from bridge.sandbox.milestones import Milestone
from bridge.sandbox.outputs import TOKENS, describe, output_of, result_text

NAME = "SandboxCrew"
FLOW_NAME = "SandboxFlow"
INNER_FLOW = "AgentExecutor"
"""The flow that wraps every agent; its end is not the end of the run (from CrewAI's engineers)."""

BATCH = 4
"""The maximum number of events per POST without `realtime` (the number observed live)."""

_LEG = 1000  # each segment of a run between two pauses numbers its events from a multiple of this

_Event = Mapping[str, object]
_Emitted = tuple[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Batch:
    """The body of one POST, and the time of its last event."""

    at: float
    body: Mapping[str, list[_Event]]


def batches(
    execution: Execution, kind: Kind, stream: Stream, path: Iterable[Milestone], *, nested: bool
) -> list[Batch]:
    """Return the POSTs for these milestones, with the subscribed events."""
    wanted = [event for event in _events(execution, kind, path, nested=nested) if event[1]["type"] in stream.events]
    size = 1 if stream.realtime else BATCH
    groups = [wanted[index : index + size] for index in range(0, len(wanted), size)]
    return [Batch(group[-1][0], {"events": [event for _, event in group]}) for group in groups]


def _events(
    execution: Execution, kind: Kind, path: Iterable[Milestone], *, nested: bool
) -> Iterator[tuple[float, _Event]]:
    number = _LEG * (execution.questions_answered + execution.repeats)
    for milestone in path:
        emitted = [(execution.kickoff_id, event) for event in _EMITTERS[kind](execution, milestone)]
        if nested:
            emitted = _inner(execution, kind, milestone) + emitted
        for execution_id, (type_, data) in emitted:
            number += 1
            yield milestone.at, _event(execution, execution_id, milestone.at, number, type_, data)


def _event(
    execution: Execution, execution_id: str, at: float, number: int, type_: str, data: Mapping[str, object]
) -> _Event:
    event_id = execution.derived_id(f"event {number}")
    timestamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    common = {"type": type_, "timestamp": timestamp, "event_id": event_id, "emission_sequence": number}
    return {
        "id": event_id,
        "execution_id": execution_id,
        "timestamp": timestamp,
        "type": type_,
        "data": {**data, **common},
    }


def _emit_crew(execution: Execution, milestone: Milestone) -> list[_Emitted]:
    name = {"crew_name": NAME}
    match milestone.what:
        case "begin":
            return [("crew_kickoff_started", {**name, "inputs": execution.inputs})]
        case "task_started":
            return [("task_started", _task(execution, milestone.task))]
        case "task_done":
            return [("task_completed", _task(execution, milestone.task) | {"output": _output(execution, milestone)})]
        case "task_failed":
            return [("task_failed", _task(execution, milestone.task) | {"error": execution.failure})]
        case "end" if execution.failure is not None:
            return [("crew_kickoff_failed", {**name, "error": execution.failure})]
        case "end":
            output = result_text(execution, "crew")
            return [("crew_kickoff_completed", {**name, "output": output, "total_tokens": TOKENS["total_tokens"]})]
        case _:
            return []


def _emit_flow(execution: Execution, milestone: Milestone) -> list[_Emitted]:
    method = {"flow_name": FLOW_NAME, "method_name": TASKS[milestone.task].name}
    match milestone.what:
        case "begin":
            return [("flow_started", {"flow_name": FLOW_NAME, "inputs": execution.inputs})]
        case "task_started":
            return [("method_execution_started", method)]
        case "task_done":
            return [("method_execution_finished", method | {"result": output_of(execution, milestone.task)})]
        case "task_failed":
            return [("method_execution_failed", method | {"error": execution.failure})]
        case "end" if execution.failure is None:
            state = {"id": execution.kickoff_id, **execution.inputs}
            result = result_text(execution, "flow")
            return [("flow_finished", {"flow_name": FLOW_NAME, "result": result, "state": state})]
        case _:
            return []


_EMITTERS = {"crew": _emit_crew, "flow": _emit_flow}


def _inner(execution: Execution, kind: Kind, milestone: Milestone) -> list[tuple[str, _Emitted]]:
    """Return misleading events: of the flow around each agent, and of the crew that each method of a flow runs."""
    inner_id = execution.derived_id(f"inner {milestone.task}")
    flow = {"flow_name": INNER_FLOW}
    match milestone.what:
        case "task_started":
            emitted: list[_Emitted] = [("flow_started", {**flow, "inputs": {}})]
        case "task_done":
            emitted = [("flow_finished", {**flow, "result": "completed", "state": {}})]
            if kind == "flow":
                completed = {"crew_name": "InnerCrew", "output": "part", "total_tokens": 1}
                emitted.append(("crew_kickoff_completed", completed))
        case _:
            emitted = []
    return [(inner_id, event) for event in emitted]


def _task(execution: Execution, index: int) -> dict[str, object]:
    task = TASKS[index]
    return {"task_id": execution.derived_id(f"task {index}"), "task_name": task.name, "agent_role": task.agent}


def _output(execution: Execution, milestone: Milestone) -> dict[str, object]:
    emitted = describe(execution, milestone.task)
    shared = {name: emitted[name] for name in ("description", "name", "expected_output", "agent")}
    rest = {"pydantic": None, "json_dict": None, "output_format": "raw"}
    return {**shared, "summary": f"{emitted['description']}...", "raw": emitted["output"], **rest}
