"""What the kickoff step needs from the kickoff journal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.core.runs.model import Run


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """A kickoff id received while the store could not be written."""

    run_id: str
    attempt: int
    kickoff_id: str


class Journal(Protocol):
    """Keeps kickoff ids that the store has not taken yet; entries survive the death of the process."""

    async def append(self, run: Run) -> None:
        """Append the kickoff id of the run's current attempt; durable on return."""

    async def drop(self, run: Run) -> None:
        """Drop the entry of the run's current attempt, which the store has taken; after a crash it may reappear."""

    def entries(self) -> Sequence[JournalEntry]:
        """Return the entries appended since the last `clear` and not dropped."""

    def clear(self) -> None:
        """Delete all entries."""
