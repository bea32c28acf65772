"""Questions of executions that no run is known to have yet; nobody sends them again."""

from dataclasses import dataclass, replace
from sys import getsizeof

from bridge.core.human_input.model import QuestionContent

ASK_EVERY = 1.0  # seconds until the run of the same execution is looked for again
MOST = 1000  # questions
MOST_BYTES = 16 * 1024 * 1024  # of their texts in memory; one may have a megabyte or more of them
PATIENCE = 3600.0  # seconds that one is kept


@dataclass(frozen=True, slots=True)
class PendingQuestion:
    """A question, when to look for its run, and how long."""

    content: QuestionContent
    due_at: float
    until: float
    size: int


class PendingQuestions:
    """One crew's, by kickoff id; when they become too many or too large, the oldest go."""

    def __init__(self) -> None:
        self._kept: dict[str, PendingQuestion] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, kickoff_id: str, content: QuestionContent, now: float) -> list[str]:
        """Keep a question, in the place of an older one of the same execution; gives back whose made way for it."""
        self.drop(kickoff_id)
        size, gone = _size(content), list[str]()
        while self._kept and (len(self._kept) >= MOST or self._bytes + size > MOST_BYTES):
            gone.append(next(iter(self._kept)))
            self.drop(gone[-1])
        self._kept[kickoff_id] = PendingQuestion(content, now, now + PATIENCE, size)
        self._bytes += size
        return gone

    def due(self, now: float) -> list[str]:
        """The executions whose run it is time to look for."""
        return [kickoff_id for kickoff_id, question in self._kept.items() if question.due_at <= now]

    def paused_seconds(self, kickoff_id: str, now: float, pause: float = ASK_EVERY) -> None:
        """The run is being looked for now; again after `pause` seconds, if the question is still kept."""
        if (kept := self._kept.get(kickoff_id)) is not None:
            self._kept[kickoff_id] = replace(kept, due_at=now + pause)

    def get(self, kickoff_id: str) -> PendingQuestion | None:
        """The question, if it is still kept."""
        return self._kept.get(kickoff_id)

    def drop(self, kickoff_id: str) -> None:
        """It was asked, or nobody can be asked any more."""
        dropped = self._kept.pop(kickoff_id, None)
        if dropped is not None:
            self._bytes -= dropped.size


def _size(content: QuestionContent) -> int:
    texts = (content.task_id, content.output, content.message, content.callback_url, *content.options)
    return sum(map(getsizeof, texts))
