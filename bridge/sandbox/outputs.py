"""Build the outputs of an execution and its tasks."""

import math

from bridge.sandbox.exact_json import to_json
from bridge.sandbox.execution import TASKS, Execution, Kind

_FILLER = '\n"One line" of a long result, which JSON escapes.'

TOKENS = {
    "total_tokens": 1500,
    "prompt_tokens": 1200,
    "cached_prompt_tokens": 200,
    "completion_tokens": 300,
    "reasoning_tokens": 50,
    "cache_creation_tokens": 0,
    "successful_requests": len(TASKS),
}
"""The token usage of every execution, with the members of the library (crew API contract 4.2)."""


def result_text(execution: Execution, kind: Kind = "crew") -> str:
    """Return the final output of a success: the requested text or JSON, or a sentence about the first input."""
    if isinstance(execution.result, str):
        return execution.result
    if execution.result_json is not None:
        return to_json(execution.result_json).decode()
    sentence = f"The sandbox {kind} has dealt with {execution.topic() or 'nothing in particular'}."
    return sentence + _FILLER * math.ceil((execution.result_bytes - len(sentence)) / len(_FILLER))


def results_of(execution: Execution, kind: Kind) -> dict[str, object]:
    """Return the result members of a success: the value that the caller requested, or the default of this kind.

    A crew returns text; a flow what its last method returns, here its state as an object (seen in the field).
    """
    if execution.result is not None:
        result = execution.result
    elif kind == "crew":
        result = result_text(execution)
    else:
        result = execution.result_json or _flow_result(execution)
    return {"result": result, "result_json": result if isinstance(result, dict) else execution.result_json}


def _flow_result(execution: Execution) -> dict[str, object]:
    fields = {name: value for name, value in execution.state.items() if name != "id"}
    return {**fields, "summary": result_text(execution, "flow")}


def output_of(execution: Execution, index: int) -> str:
    """Return the output of this task; that of the last task is the result."""
    if index == len(TASKS) - 1:
        return result_text(execution)
    return f"Notes on {execution.topic()}"


def describe(execution: Execution, index: int) -> dict[str, object]:
    """Return a completed task as `/status` and the task webhook render it (crew API contract 4.2 and 6.1)."""
    task = TASKS[index]
    return {
        "name": execution.task_name(index),
        "description": task.description,
        "expected_output": "Some text.",
        "agent": task.agent,
        "output": output_of(execution, index),
        "kickoff_id": execution.kickoff_id,
        "meta": execution.meta,
    }
