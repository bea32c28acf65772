"""List the milestones of an execution, from its current position to its next pause or its end."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bridge.sandbox.execution import TASKS, Execution

MilestoneKind = Literal["begin", "resumed", "task_started", "step", "task_done", "task_failed", "pause", "end"]

_STEP = 0.25  # an agent with a tool reports a step at this fraction of its task
_EPSILON = 1e-9  # tolerance for rounding of computed fractions


@dataclass(frozen=True, slots=True)
class Milestone:
    """One milestone: its time, its kind, and the index of its task."""

    at: float
    what: MilestoneKind
    task: int = 0


def milestones(execution: Execution) -> list[Milestone]:
    """Return the upcoming milestones in order; skip those before the current position."""
    coming = [
        Milestone(execution.at(share), what, task)
        for share, what, task in _work()
        if share <= execution.pause_share + _EPSILON and _lies_ahead(share, what, execution.place)
    ]
    untouched = execution.questions_answered + execution.repeats == 0
    first = (
        Milestone(execution.starts_at, "begin") if untouched else Milestone(execution.at(execution.place), "resumed")
    )
    return [first, *coming, *_last(execution)]


def _lies_ahead(share: float, what: MilestoneKind, place: float) -> bool:
    # A repeated task starts at the current position; no other milestone may occur twice at one position.
    return share >= place - _EPSILON if what == "task_started" else share > place + _EPSILON


def _work() -> Iterator[tuple[float, MilestoneKind, int]]:
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
    done: MilestoneKind = "task_failed" if execution.failure is not None else "task_done"
    return [Milestone(execution.ends_at, done, last), Milestone(execution.ends_at, "end")]
