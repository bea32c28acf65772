"""What a poll can reveal about a tracked run: the values between `observe` and `apply_observation`."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from bridge.core.crew.tasks import NO_TASKS, ReportedTasks
from bridge.core.runs.model import Outcome, State


@dataclass(frozen=True, slots=True)
class Ended:
    """The execution succeeded or failed. `progress` is the last reported progress, if any; `tasks`, those reported."""

    state: State
    outcome: Outcome
    progress: Any = None
    tasks: ReportedTasks = NO_TASKS


@dataclass(frozen=True, slots=True)
class Lost:
    """The API no longer knows the execution."""


@dataclass(frozen=True, slots=True)
class NeverKnown:
    """The API has never known the execution that an operator or an uncertain webhook named."""


@dataclass(frozen=True, slots=True)
class DeadlineExceeded:
    """A poll made after the deadline found no end of the execution; `deadline` in seconds.

    `unreadable`: why the status could not be read, and may have been an end; None if it was read.
    """

    deadline: float
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class Progressed:
    """The execution reported new progress, and perhaps finished tasks."""

    progress: Any
    tasks: ReportedTasks = NO_TASKS


class TrackingChange(Enum):
    """What is only recorded in the run's row."""

    FIRST_SEEN = auto()
    """The execution was seen started for the first time; its deadline counts from here."""
    VERIFIED = auto()
    """The API knows the execution that an operator specified."""
    POLLING_RESUMED = auto()
    """Polling resumed after it had been deferred."""


class QuestionChange(Enum):
    """What became of a question."""

    ASKED = auto()
    """The execution waits for human input, and its question has not been stored yet."""
    ANSWERED_ELSEWHERE = auto()
    """The execution continued although its question had not been answered through the bridge."""
    ANSWER_OVERDUE = auto()
    """No answer arrived in time, and the crew has a default answer."""
    ANSWER_CONFIRMED = auto()
    """The execution continued after the answer was sent."""
    ANSWER_UNCONFIRMED = auto()
    """The answer had no visible effect for too long."""


End = Ended | Lost | NeverKnown | DeadlineExceeded
Change = End | Progressed | TrackingChange | QuestionChange
