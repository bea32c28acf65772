"""Values of human input: a question of an execution, and what was answered."""

from dataclasses import dataclass, field
from enum import StrEnum


class QuestionStage(StrEnum):
    """Where the answer to a question stands; what was about to be sent is never sent again."""

    OPEN = "open"
    ACCEPTED = "given"
    SENT = "sent"
    UNCONFIRMED = "unconfirmed"
    CONFIRMED = "settled"


@dataclass(frozen=True, slots=True)
class QuestionContent:
    """What a paused execution asks a human. `task_id`: the API's name for this question; None: not told.

    `callback_url` is where a flow wants the answer, and a secret.
    """

    task_id: str | None = None
    output: str | None = None
    message: str | None = None
    options: tuple[str, ...] = ()
    callback_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a run and what became of it; `number` counts the run's questions from 1.

    After `answer_by` humans have had their time. `feedback` is the text to send, `sent_at` when its POST was about to
    leave, `problem` why it may have had no effect.
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
    """What passed between a run's execution and humans.

    `known` are the task ids of all questions, `taken` the key and the content of all answers, `aliases` the ids that
    the API gave when it was answered. `paused_seconds` is by how many seconds open questions move the run's deadline.
    """

    question: Question | None = None
    known_task_ids: tuple[str, ...] = ()
    accepted_answers: tuple[tuple[str | None, str], ...] = ()
    aliases: tuple[str, ...] = ()
    paused_seconds: float = 0.0


NO_HUMAN_INPUT = HumanInput()
