"""Questions of executions that no run is known to have yet; nobody sends them again."""

from dataclasses import dataclass, replace

from bridge.core.model import Asked

ASK_EVERY = 1.0  # seconds until the run of the same execution is looked for again
MOST = 1000  # questions
PATIENCE = 3600.0  # seconds that one is kept


@dataclass(frozen=True, slots=True)
class EarlyQuestion:
    """A question, when to look for its run, and how long."""

    asked: Asked
    due_at: float
    until: float


class EarlyQuestions:
    """One crew's, by kickoff id; when they become too many, the oldest goes."""

    def __init__(self) -> None:
        self._kept: dict[str, EarlyQuestion] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, kickoff_id: str, asked: Asked, now: float) -> None:
        """Keep a question; a newer one of the same execution takes its place."""
        while len(self._kept) >= MOST:
            self.drop(next(iter(self._kept)))
        self._kept[kickoff_id] = EarlyQuestion(asked, now, now + PATIENCE)

    def due(self, now: float) -> list[str]:
        """The executions whose run it is time to look for."""
        return [kickoff_id for kickoff_id, question in self._kept.items() if question.due_at <= now]

    def put_off(self, kickoff_id: str, now: float) -> None:
        """The run is being looked for now."""
        self._kept[kickoff_id] = replace(self._kept[kickoff_id], due_at=now + ASK_EVERY)

    def get(self, kickoff_id: str) -> EarlyQuestion | None:
        """The question, if it is still kept."""
        return self._kept.get(kickoff_id)

    def drop(self, kickoff_id: str) -> None:
        """It was asked, or nobody can be asked any more."""
        self._kept.pop(kickoff_id, None)
