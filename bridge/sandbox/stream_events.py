"""List the events that each milestone of a run emits, in the shapes of crewai 1.15.30, captured from a real crew.

With `nested`, the events of inner executions are included, which look like the start and the end of the run: memory
flows, the flow around each agent, and, in a flow, inner crews and a child flow.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.sandbox.execution import TASKS, Execution, Kind
from bridge.sandbox.milestones import Milestone
from bridge.sandbox.outputs import TOKENS, describe, output_of, results_of

NAME = "SandboxCrew"
FLOW_NAME = "SandboxFlow"
INNER_CREW = "InnerCrew"
CHILD_FLOW = "ChildFlow"

CLOSES: Mapping[str, str] = {
    "crew_kickoff_completed": "crew_kickoff_started",
    "crew_kickoff_failed": "crew_kickoff_started",
    "task_completed": "task_started",
    "task_failed": "task_started",
    "flow_finished": "flow_started",
    "flow_failed": "flow_started",
    "flow_paused": "flow_started",
    "method_execution_finished": "method_execution_started",
    "method_execution_failed": "method_execution_started",
}
"""The events that end a scope, each with the one that began it."""

_SCOPED_BY = {
    "crew": ("crew_name",),
    "flow": ("flow_name",),
    "method": ("flow_name", "method_name"),
    "task": ("task_id",),
}


def _output_of_task(task: Mapping[str, object], parsed: object = None) -> dict[str, object]:
    return {
        **{name: task.get(name, "") for name in ("description", "name", "expected_output", "agent")},
        "summary": f"{task.get('description', '')}...",
        "raw": task["output"],
        "pydantic": None,
        "json_dict": parsed,
        "output_format": "raw",
        "messages": [],
        "tool_failures": [],
    }


@dataclass(frozen=True, slots=True)
class Emitted:
    """One event; `inner` names the inner execution that it belongs to, None: the run itself."""

    type: str
    data: Mapping[str, object]
    inner: str | None = None

    @property
    def scope(self) -> object:
        """Return what distinguishes its scope from others of the same type."""
        return [self.data[name] for name in _SCOPED_BY[self.type.partition("_")[0]]]

    @property
    def in_thread(self) -> bool:
        """Return whether it is the start or the end of an inner crew or flow, which a flow may run in a thread."""
        return self.data.get("crew_name", self.data.get("flow_name")) in {INNER_CREW, CHILD_FLOW}

    @property
    def outermost(self) -> bool:
        """Return whether it is a start or an end of the run itself."""
        return self.inner is None and self.type.startswith(("crew_", "flow_"))


@dataclass(frozen=True, slots=True)
class _Layer:
    """An execution inside a task: the events that open and close it."""

    opens: str
    closes: str
    fails: str
    name: Mapping[str, object]
    opened: Mapping[str, object]
    closed: Mapping[str, object]

    def begin(self, inner: str) -> Emitted:
        return Emitted(self.opens, {**self.name, **self.opened}, inner)

    def end(self, inner: str, failure: str | None = None) -> Emitted:
        if failure is not None:
            return Emitted(self.fails, {**self.name, "error": failure}, inner)
        return Emitted(self.closes, {**self.name, **self.closed}, inner)


def _flow_layer(name: str, result: object, inputs: object = None) -> _Layer:
    opened, closed = {"inputs": inputs}, {"result": result, "state": {}}
    return _Layer("flow_started", "flow_finished", "flow_failed", {"flow_name": name}, opened, closed)


_RECALL = _flow_layer("RecallFlow", [])
_ENCODING = _flow_layer("EncodingFlow", None)
_AGENT = _flow_layer("AgentExecutor", "completed")
_CHILD = _flow_layer(CHILD_FLOW, "approved", {"part": "approval"})
_INNER_CREW = _Layer(
    "crew_kickoff_started",
    "crew_kickoff_completed",
    "crew_kickoff_failed",
    {"crew_name": INNER_CREW},
    {"inputs": {}},
    {"output": _output_of_task({"name": "part_task", "agent": "Helper", "output": "part"}), "total_tokens": 1},
)


def emitted(execution: Execution, kind: Kind, milestone: Milestone, nested: bool) -> list[Emitted]:  # noqa: FBT001
    """Return the events of this milestone in the order in which they happen."""
    outer = _EMITTERS[kind](execution, milestone)
    if not nested:
        return outer
    inner = _inner(execution, kind, milestone)
    return [*outer, *inner] if milestone.what == "task_started" else [*inner, *outer]


def _emit_crew(execution: Execution, milestone: Milestone) -> list[Emitted]:
    name = {"crew_name": NAME}
    match milestone.what:
        case "begin":
            return [Emitted("crew_kickoff_started", {**name, "inputs": execution.inputs})]
        case "task_started":
            return [Emitted("task_started", _task(execution, milestone.task))]
        case "task_done":
            output = _output(execution, milestone.task)
            return [Emitted("task_completed", {**_task(execution, milestone.task), "output": output})]
        case "task_failed":
            task = _task(execution, milestone.task)
            return [
                Emitted("task_failed", {**task, "error": _message(execution), "error_type": _error_type(execution)})
            ]
        case "end" if execution.failure is not None:
            return [Emitted("crew_kickoff_failed", {**name, "error": _message(execution)})]
        case "end":
            output, total = _output(execution, len(TASKS) - 1), TOKENS["total_tokens"]
            return [Emitted("crew_kickoff_completed", {**name, "output": output, "total_tokens": total})]
        case _:
            return []


def _emit_flow(execution: Execution, milestone: Milestone) -> list[Emitted]:
    name = {"flow_name": FLOW_NAME}
    method = {**name, "method_name": TASKS[milestone.task].name}
    match milestone.what:
        case "begin":
            return [Emitted("flow_started", {**name, "inputs": {**execution.inputs, "id": execution.state_id}})]
        case "resumed":
            return [Emitted("flow_started", {**name, "inputs": None})]
        case "task_started":
            return [Emitted("method_execution_started", method)]
        case "task_done":
            return [Emitted("method_execution_finished", {**method, "result": output_of(execution, milestone.task)})]
        case "task_failed":
            return [Emitted("method_execution_failed", {**method, "error": _message(execution)})]
        case "pause":
            asked = {"flow_id": execution.state_id, "message": "Please review.", "emit": ["approved", "rejected"]}
            return [Emitted("flow_paused", {**method, **asked, "state": execution.state})]
        case "end":
            return [_end_of_flow(execution, name)]
        case _:
            return []


def _end_of_flow(execution: Execution, name: Mapping[str, object]) -> Emitted:
    if execution.failure is not None:
        return Emitted("flow_failed", {**name, "error": _message(execution)})
    result = results_of(execution, "flow")["result"]
    return Emitted("flow_finished", {**name, "result": result, "state": execution.state})


_EMITTERS = {"crew": _emit_crew, "flow": _emit_flow}


def _inner(execution: Execution, kind: Kind, milestone: Milestone) -> list[Emitted]:
    inner = f"inner {milestone.task}"
    match milestone.what:
        case "task_started":
            recalled = [_RECALL.begin(inner), _RECALL.end(inner)]
            return [*recalled, *(layer.begin(inner) for layer in _layers(kind, milestone.task))]
        case "task_done":
            ended = [layer.end(inner) for layer in reversed(_layers(kind, milestone.task))]
            return [*ended, _ENCODING.begin(inner), _ENCODING.end(inner)]
        case "task_failed":
            return [layer.end(inner, _message(execution)) for layer in reversed(_layers(kind, milestone.task))]
        case _:
            return []


def _layers(kind: Kind, task: int) -> tuple[_Layer, ...]:
    """Return the executions inside this task, from the outside to the inside."""
    if kind == "crew":
        return (_AGENT,)
    return (_CHILD,) if task == len(TASKS) - 1 else (_INNER_CREW, _AGENT)


def _task(execution: Execution, index: int) -> dict[str, object]:
    name, agent = describe(execution, index)["name"], TASKS[index].agent
    return {
        "task_id": execution.derived_id(f"task {index}"),
        "task_name": name,
        "agent_id": execution.derived_id(f"agent {agent}"),
        "agent_role": agent,
    }


def _output(execution: Execution, index: int) -> dict[str, object]:
    return _output_of_task(describe(execution, index), execution.result_json if index == len(TASKS) - 1 else None)


def _message(execution: Execution) -> str:
    """Return the error as events carry it: without the name of its class."""
    return str(execution.failure).partition(": ")[2] or str(execution.failure)


def _error_type(execution: Execution) -> str | None:
    name = str(execution.failure).partition(": ")[0]
    return f"builtins:{name}" if name.isidentifier() else None
