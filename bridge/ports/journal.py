"""What the kickoff step needs from the kickoff journal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.core.runs.model import Run


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A kickoff id that was in hand when the store could not be written."""

    run_id: str
    attempt: int
    kickoff_id: str


class Journal(Protocol):
    """Keeps kickoff ids while the store does not take them, across the death of the process."""

    async def append(self, run: Run) -> None:
        """Keep the kickoff id of this run's present attempt; durable when it returns."""

    async def drop(self, run: Run) -> None:
        """The store has it after all: what was noted of this attempt is needed no more, though it may come back."""

    def entries(self) -> Sequence[JournalEntry]:
        """Everything that was noted since the last `clear` and not dropped."""

    def clear(self) -> None:
        """Forget it all."""
