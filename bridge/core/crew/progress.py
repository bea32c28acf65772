"""Progress of an execution, in the form of the live API for every dialect (crew API contract, sections 4.2 and 4.3)."""

from collections.abc import Mapping
from typing import Any

from bridge.core.crew import results
from bridge.core.numbers import read_number

MAX_STEP = 200  # characters of the name of the current step


def read_progress(body: Mapping[str, Any]) -> Any:
    """Return the progress that a status reports; None if it reports none.

    The published reference uses other names, and names the current task beside the counts.
    """
    reported = body.get("progress")
    counts = reported if isinstance(reported, dict) else {}
    current = body.get("current_task")
    if "completed_tasks" in counts or "total_tasks" in counts or (not counts and isinstance(current, str)):
        return _progress(count(counts.get("completed_tasks")), count(counts.get("total_tasks")), _step(current))
    return results.portable(reported) if isinstance(reported, dict) else None


def read_final_progress(body: Mapping[str, Any], tasks: int) -> Any:
    """Return the progress of an ended execution; the published reference reports only its `tasks` and its time."""
    progress, reported = read_progress(body), body.get("execution_time")
    seconds = None if isinstance(reported, str) else read_number(reported)
    if progress is not None or seconds is None:
        return progress
    return _progress(tasks or None, tasks, None) | {"duration_seconds": seconds}


def count(value: Any) -> int | None:
    """Return a number of tasks; None for anything else."""
    number = None if isinstance(value, str) else read_number(value)
    return number if isinstance(number, int) and number >= 0 else None


def _progress(completed: int | None, total: int | None, current: str | None) -> dict[str, Any]:
    return {"unit": "task", "completed": completed, "total": total or None, "current": current}


def _step(value: Any) -> str | None:
    return results.clean(value[:MAX_STEP]) if isinstance(value, str) and value else None
