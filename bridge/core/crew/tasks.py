"""The finished tasks of an execution, from its status or from task webhooks (crew API contract, sections 4 and 6.1).

The live API keeps only the last task in the status, so each one is stored when it is first seen. What is stored is
bounded: the run is written again at every change.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge.core.crew import results
from bridge.core.json import compact
from bridge.core.runs.model import Task

MAX_TASKS = 50  # the newest are kept
MAX_NAME = 200  # characters; a name can be a whole description
MAX_OUTPUT = 16 * 1024  # bytes of one output
MAX_BYTES = 64 * 1024  # of all outputs of a run; the newest are kept


@dataclass(frozen=True, slots=True)
class ReportedTasks:
    """The tasks that a status reports. `finished`: how many have finished; None: it reports only the last one."""

    tasks: tuple[Task, ...] = ()
    finished: int | None = None


NO_TASKS = ReportedTasks()


def read_tasks(body: Mapping[str, Any], *, wrapped: bool) -> ReportedTasks:
    """Return the tasks in a status or a crew webhook; `wrapped`: as for `results.read_result`."""
    if (listed := next(results.task_lists(body, wrapped=wrapped), None)) is not None:
        finished = [item for item in listed if isinstance(item, dict)]
        return ReportedTasks(_bounded(map(read_task, finished[-MAX_TASKS:])), len(finished))
    last = body.get("last_executed_task")
    return ReportedTasks((read_task(last),)) if isinstance(last, dict) else NO_TASKS


def read_task(content: Mapping[str, Any], finished_at: float | None = None) -> Task:
    """Read one task, as in a webhook or a status; the published reference calls its name `task_id`."""
    name = _text(content.get("name")) or _text(content.get("task_id"))
    return Task(
        name, _text(content.get("agent")), _cut(results.portable(results.task_result(content)), MAX_OUTPUT), finished_at
    )


def with_task(known: Sequence[Task], task: Task) -> tuple[Task, ...]:
    """Add a task, unless it is known: a webhook can be sent twice, and a status repeats the last task."""
    identity = (task.name, task.agent, task.output)
    if any((one.name, one.agent, one.output) == identity for one in known):
        return tuple(known)
    return _bounded([*known, task])


def with_reported(known: Sequence[Task], reported: ReportedTasks) -> tuple[Task, ...]:
    """Add the tasks that a status reports. A complete list replaces the known ones, but keeps their times."""
    names = Counter(task.name for task in known)
    if reported.finished is None or names - Counter(task.name for task in reported.tasks):
        for task in reported.tasks:
            known = with_task(known, task)
        return tuple(known)
    times: dict[str | None, list[float | None]] = {}
    for task in known:
        times.setdefault(task.name, []).append(task.finished_at)
    return tuple(
        replace(task, finished_at=times[task.name].pop(0)) if times.get(task.name) else task for task in reported.tasks
    )


def _bounded(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Keep the newest tasks, and the outputs of the newest among them."""
    left, kept = MAX_BYTES, []
    for task in reversed(list(tasks)[-MAX_TASKS:]):
        output = _cut(task.output, left)
        left -= _size(output)
        kept.append(task if output is task.output else replace(task, output=output))
    return tuple(reversed(kept))


def _cut(output: Any, most: int) -> Any:
    """Return the output in at most so many bytes: text is cut, other JSON is dropped.

    A mark at the end would hide from the redaction that the text may end within a secret.
    """
    if _size(output) <= most:
        return output
    return output.encode()[:most].decode(errors="ignore") or None if isinstance(output, str) else None


def _size(output: Any) -> int:
    return 0 if output is None else len(output.encode() if isinstance(output, str) else compact(output))


def _text(value: Any) -> str | None:
    return results.clean(value[:MAX_NAME]) if isinstance(value, str) and value else None
