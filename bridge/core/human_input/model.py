"""Values of human input: the questions of an execution, and their answers."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


class QuestionStage(StrEnum):
    """The stage of a question. From `SENT` on, its answer is not sent again, unless it is certain that nothing left."""

    OPEN = "open"
    ACCEPTED = "accepted"
    SENT = "sent"
    UNCONFIRMED = "unconfirmed"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, slots=True)
class QuestionContent:
    """What a paused execution asks a human. `task_id`: the API's id of this question; None: not reported.

    `callback_url` is where a flow expects the answer; it is a secret.
    """

    task_id: str | None = None
    output: str | None = None
    message: str | None = None
    options: tuple[str, ...] = ()
    callback_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a run and its answer; `number` counts the run's questions from 1.

    `answer_by` is the deadline for an answer, `feedback` the text to send, `sent_at` when its POST was about to leave,
    `problem` why it may have had no effect.
    """

    number: int
    asked_at: float
    answer_by: float | None = None
    content: QuestionContent = QuestionContent()
    stage: QuestionStage = QuestionStage.OPEN
    feedback: str | None = None
    approve: bool = False
    sent_at: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class HumanInput:
    """The human input of a run.

    `known_task_ids` are the ids of its questions, `accepted_answers` the key and digest of each answer, `aliases` the
    ids that the API returned for answers, `deadline_extension` the seconds by which its questions move the deadline.
    """

    question: Question | None = None
    known_task_ids: tuple[str, ...] = ()
    accepted_answers: tuple[tuple[str | None, str], ...] = ()
    aliases: tuple[str, ...] = ()
    deadline_extension: float = 0.0

    @property
    def stage(self) -> QuestionStage | None:
        """The stage of the question; None: nothing was asked."""
        return None if self.question is None else self.question.stage

    def with_question(self, **changes: Any) -> "HumanInput":
        """Return it with changes to its question, if it has one."""
        return self if self.question is None else replace(self, question=replace(self.question, **changes))


NO_HUMAN_INPUT = HumanInput()
