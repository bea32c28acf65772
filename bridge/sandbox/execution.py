"""Model one execution: when it starts, waits for a human, and ends, computed from the clock on each read.

Its schedule is fixed at the kickoff except for human actions: an answer resumes it after a pause, and a stop ends it.
Only these two change it; no timer does.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bridge.sandbox.controls import PREFIX

Kind = Literal["crew", "flow"]

_MENTIONED = 200  # characters of an input that the result repeats
_IDS = uuid.UUID("8c1f5d0e-52c6-4bb4-9d3c-0c8f1f7f6a11")  # IDs are derived from names, so that they survive a restart


@dataclass(frozen=True, slots=True)
class Task:
    """One task and its agent; an agent without a `tool` reports no steps."""

    name: str
    agent: str
    tool: str | None

    @property
    def description(self) -> str:
        """Return the prompt of the task, which has several lines."""
        return f"The {self.name} of the sandbox.\n\nRead what the other tasks wrote, then:\n- write down the result\n"


TASKS = (
    Task("collect_task", "Researcher", "web_search"),
    Task("draft_task", "Writer", "notebook"),
    Task("review_task", "Editor", None),
)
"""The tasks of every execution, all of the same duration."""


@dataclass(slots=True)
class Execution:
    """One execution. Times are epoch seconds; `failure` is the exception text of a failed execution, else None.

    `ends_at` moves later with every pause. The execution pauses `questions` times, of which `questions_answered` are
    over; `repeats` counts how often a human asked for more work, `lost` is the time of waiting and repeating, `place`
    the fraction of the work done when it last resumed. A `revoked` execution neither succeeds nor fails.

    A flow began with the state `restored` from `restore_from`, the id that its kickoff named.
    """

    kickoff_id: str
    inputs: Mapping[str, object]
    meta: object
    starts_at: float
    ends_at: float
    failure: str | None = None
    result: object = None
    result_json: Mapping[str, object] | None = None
    result_bytes: int = 0
    unnamed_tasks: bool = False
    questions: int = 0
    questions_answered: int = 0
    repeats: int = 0
    lost: float = 0.0
    place: float = 0.0
    revoked: bool = False
    restore_from: object = None
    restored: Mapping[str, object] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Return the run time without waiting and repeating."""
        return self.ends_at - self.starts_at - self.lost

    @property
    def pauses_at(self) -> float | None:
        """Return the time of the next pause, which may be in the past; None if no question is left.

        Questions are spread evenly: the first of three falls in the middle of the first task.
        """
        if self.questions_answered >= self.questions:
            return None
        return self.at(self.pause_share)

    @property
    def pause_share(self) -> float:
        """Return the fraction of the work done at the next pause; 1 if no question is left."""
        return (self.questions_answered + 0.5) / self.questions if self.questions_answered < self.questions else 1.0

    @property
    def state_id(self) -> str:
        """Return the id under which a flow saves its state: its own, unless the kickoff chose another."""
        return str(self.inputs.get("id") or self.kickoff_id)

    @property
    def state(self) -> Mapping[str, object]:
        """Return the state of a flow: the inputs on top of what was restored."""
        return {**self.restored, **_without_controls(self.inputs), "id": self.state_id}

    @property
    def question_id(self) -> str:
        """Return the ID of the open or next question; each time it is asked, the ID is new."""
        return self.derived_id(f"question {self.questions_answered + self.repeats}")

    def at(self, share: float) -> float:
        """Return the time when this fraction of the work is done, if no question intervenes."""
        return self.starts_at + self.lost + share * self.seconds

    def derived_id(self, name: str) -> str:
        """Return the ID derived from this execution and this name."""
        return str(uuid.uuid5(_IDS, f"{self.kickoff_id} {name}"))

    def waiting(self, now: float) -> bool:
        """Return whether it waits for a human."""
        pauses_at = self.pauses_at
        return pauses_at is not None and now >= pauses_at

    def over(self, now: float) -> bool:
        """Return whether it has ended."""
        return self.pauses_at is None and now >= self.ends_at

    def succeeded(self, now: float) -> bool:
        """Return whether it has ended with a result."""
        return self.over(now) and self.failure is None and not self.revoked

    def share(self, now: float) -> float:
        """Return the fraction of the work done, from 0 to 1; it is constant while the execution waits."""
        if self.over(now):
            return 1.0
        moment = now if self.pauses_at is None else min(now, self.pauses_at)
        worked = moment - self.starts_at - self.lost
        return max(0.0, worked / self.seconds) if self.seconds else 0.0

    def task_name(self, index: int) -> str:
        """Return the name of a task: the library calls a task without a name by its whole description."""
        return TASKS[index].description if self.unnamed_tasks else TASKS[index].name

    def topic(self) -> str | None:
        """Return `name: value` of the first input that is not a sandbox control, or None.

        A crew writes inputs of any type into its prompts with `str()` (crew API contract 3.4).
        """
        own = (f"{name}: {value}" for name, value in _without_controls(self.inputs).items())
        return next(own, "")[:_MENTIONED] or None

    def resume(self, now: float) -> None:
        """Continue from the current pause."""
        assert self.pauses_at is not None
        self._lose(now - self.pauses_at)
        self.place = self.pause_share
        self.questions_answered += 1

    def repeat(self, now: float) -> None:
        """Repeat the current task, then ask again (contract 5.3, observed in the field)."""
        self.place = int(self.pause_share * len(TASKS)) / len(TASKS)
        self._lose(now - self.at(self.place))
        self.repeats += 1

    def stop(self, now: float) -> None:
        """End the execution immediately."""
        self.questions = self.questions_answered
        self.revoked = True
        self.ends_at = now

    def _lose(self, seconds: float) -> None:
        self.lost += seconds
        self.ends_at += seconds


def _without_controls(inputs: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in inputs.items() if not name.startswith(PREFIX)}
