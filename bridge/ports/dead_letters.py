"""What the HTTP API needs from the queue of dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """The oldest messages, as JSON values, and how many there are in all."""

    messages: Sequence[dict[str, Any]]
    total: int


class DeadLetters(Protocol):
    """The messages that could not be accepted. Every call raises `BrokerUnavailable` during an outage."""

    async def oldest(self, limit: int) -> DeadLetterPage:
        """Return the oldest messages, which stay in the queue."""

    async def replay(self, message_id: str) -> None:
        """Send a message back. Raise `RequestRefused`: `unknown_dead_letter`, or `not_replayed` with the reason."""

    async def drop(self, message_id: str) -> None:
        """Remove a message for good. Raise `RequestRefused` (`unknown_dead_letter`)."""
