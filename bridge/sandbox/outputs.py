"""Build the outputs of an execution and its tasks."""

from bridge.sandbox.exact_json import to_json
from bridge.sandbox.execution import TASKS, Execution

TOKENS = {"total_tokens": 1500, "prompt_tokens": 1200, "completion_tokens": 300}
"""The token usage of every execution."""


def result_text(execution: Execution, kind: str) -> str:
    """Return the final output of a success: the requested JSON as text, or a sentence about the first input."""
    if execution.result_json is not None:
        return to_json(execution.result_json).decode()
    return f"The sandbox {kind} has dealt with {execution.topic() or 'nothing in particular'}."


def results_of(execution: Execution, kind: str) -> dict[str, object]:
    """Return the result members of a success: of any JSON type, if the caller requested one."""
    if execution.result is None:
        return {"result": result_text(execution, kind), "result_json": execution.result_json}
    is_object = isinstance(execution.result, dict)
    return {"result": execution.result, "result_json": execution.result if is_object else execution.result_json}


def output_of(execution: Execution, index: int) -> str:
    """Return the output of this task; that of the last task is the result."""
    if index == len(TASKS) - 1:
        return result_text(execution, "crew")
    return f"Notes on {execution.topic()}"


def describe(execution: Execution, index: int) -> dict[str, object]:
    """Return a completed task as `/status` and the task webhook render it (crew API contract 4.2 and 6.1)."""
    task = TASKS[index]
    return {
        "name": task.name,
        "description": f"The {task.name} of the sandbox.",
        "expected_output": "Some text.",
        "agent": task.agent,
        "output": output_of(execution, index),
        "kickoff_id": execution.kickoff_id,
        "meta": execution.meta,
    }
