"""What the steps need from the inbox, which keeps crew webhooks until they have been handled."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.core.crew.webhooks import Kind


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """A crew webhook, with its body as JSON.

    `run_id` and `attempt` are from the token in its URL. A flow's question has no token: it names its execution,
    `kickoff_id`, whose run may not be known yet.
    """

    entry_id: str
    crew: str
    kind: Kind
    content: Any
    received_at: float
    run_id: str | None = None
    attempt: int = 0
    kickoff_id: str | None = None


class WebhookInbox(Protocol):
    """Stores webhooks durably before they are acknowledged, without changing the row of their run."""

    async def add(self, entry: InboxEntry) -> bool:
        """Store an entry; durable on return. Return False if its run or its crew has too many, or too many bytes.

        A flow's question replaces an earlier one of the same execution, which may be being handled.
        """

    async def due(self, limit: int, now: float, handling: Collection[str]) -> Sequence[InboxEntry]:
        """Return the due entries that this process can handle, except those that it is handling.

        Those that only report finished tasks and steps come last, since polls wait for none of them; otherwise the
        oldest come first.

        It can handle those of runs that it owns or that have no owner, unless their POST is in progress, and flow
        questions of its crews.
        """

    async def postpone(self, entry_id: str, due_at: float) -> None:
        """Make an entry due later."""

    async def retain(self, entry_id: str) -> None:
        """Retain an entry until its run ends. This process holds its result in memory; one that takes over reads it.

        It replaces the run's entries that were retained before. If the run has ended, the entry stays due.
        """

    async def remove(self, entry_id: str) -> None:
        """Remove an entry that has been handled."""
