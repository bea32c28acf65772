"""The part of the reported progress whose change is stored and emitted."""

from typing import Any

from bridge.core.numbers import read_number
from bridge.core.runs.model import Progress


def progress_key(progress: Any) -> Progress | None:
    """Return the part of a progress whose change counts; None where the API reports none."""
    if not isinstance(progress, dict):
        return None
    current, count = progress.get("current"), progress.get("completed")
    completed = None if isinstance(count, str) else read_number(count)
    completed = completed if isinstance(completed, int) and completed >= 0 else None
    current = current if isinstance(current, str) else None
    return None if completed is None and current is None else (completed, progress.get("total"), current)


def tasks_done(progress: Progress | None) -> int | None:
    """Return how many tasks are done; None where the API does not report it."""
    return progress[0] if progress is not None and isinstance(progress[0], int) else None
