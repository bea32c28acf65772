"""What happens in the life of an execution, moment by moment, from where it is now to its next pause or its end."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bridge.sandbox.execution import Execution
from bridge.sandbox.tasks import TASKS

Happening = Literal["begin", "task_started", "step", "task_done", "task_failed", "pause", "end"]

_STEP = 0.25  # this part into its task an agent with a tool reports a step
_A_HAIR = 1e-9  # shares of the run time are computed, and may be off by this much


@dataclass(frozen=True, slots=True)
class Milestone:
    """One thing that happens at a moment, to the task with this index."""

    at: float
    what: Happening
    task: int = 0


def milestones(execution: Execution) -> list[Milestone]:
    """Return what comes next, in order; what lies behind its present place in the work is left out."""
    coming = [
        Milestone(execution.at(share), what, task)
        for share, what, task in _work()
        if share <= execution.pause_share + _A_HAIR and _lies_ahead(share, what, execution.place)
    ]
    fresh = execution.questions_answered + execution.repeats == 0
    first = [Milestone(execution.starts_at, "begin")] if fresh else []
    return [*first, *coming, *_last(execution)]


def _lies_ahead(share: float, what: Happening, place: float) -> bool:
    # A task that is done again starts where the work stands now; nothing else may happen twice at one place.
    return share >= place - _A_HAIR if what == "task_started" else share > place + _A_HAIR


def _work() -> Iterator[tuple[float, Happening, int]]:
    for index, task in enumerate(TASKS):
        yield index / len(TASKS), "task_started", index
        if task.tool is not None:
            yield (index + _STEP) / len(TASKS), "step", index
        if index < len(TASKS) - 1:
            yield (index + 1) / len(TASKS), "task_done", index


def _last(execution: Execution) -> list[Milestone]:
    last = len(TASKS) - 1
    if execution.pauses_at is not None:
        return [Milestone(execution.pauses_at, "pause", int(execution.pause_share * len(TASKS)))]
    if execution.revoked:
        return []
    done: Happening = "task_failed" if execution.failure is not None else "task_done"
    return [Milestone(execution.ends_at, done, last), Milestone(execution.ends_at, "end")]
