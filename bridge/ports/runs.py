"""What the steps need from the store of runs."""

import math
from collections.abc import Collection, Sequence
from enum import Enum, auto
from typing import Protocol

from bridge.core.runs.budget import UNLIMITED, Budgets
from bridge.core.runs.model import Decision, Run, RunTime, State
from bridge.ports.inbound import Accepted


class Conflict(Enum):
    """Why a decision was not written; nothing was changed."""

    STALE = auto()
    """The run has been written since the decision's version, by another process, an operator, or a webhook."""
    EXECUTION_TAKEN = auto()
    """Another run of the crew has the kickoff id that the decision gives this run."""


class RunStore(Protocol):
    """Stores runs; `shared`: with other processes. Every write is durable when it returns.

    Reads and `accept` raise `StoreUnavailable` during an outage. `apply` records an effect that has happened, so it is
    retried until the store is available, unless its caller asks otherwise.
    """

    shared: bool

    async def accept(self, run: Run) -> Accepted:
        """Store a new run, or return the run that the same key or the same redelivered message had created.

        Raises `RequestRefused` if the key was used with other content.
        """

    async def claim_accepted(
        self,
        crew: str,
        limit: int,
        max_running: int,
        now: float,
        limits: Budgets = UNLIMITED,
        max_bytes: float = math.inf,
    ) -> list[Run]:
        """Claim at most `limit` due accepted runs of a crew, by priority and age, and mark them `starting`.

        The claim keeps the crew within `max_running`, the crew and the senders within their budgets, and the memory of
        the claimed runs within `max_bytes` (`core.runs.kickoff_memory`), except that one run is always claimed. The
        caller must POST each run at once, or write that its POST was not sent.
        """

    def short_of_slots(self, crew: str) -> bool:
        """Return whether a claim may have found fewer free slots of a crew than it wanted, so that an end matters."""

    async def find_expired(self, crews: Collection[str], limit: int, now: float) -> list[Run]:
        """Return accepted runs of these crews that were not started in time, without inputs; the oldest first.

        They are not claimed: the version guards the write that ends one.
        """

    async def claim(
        self, states: Collection[State], crews: Collection[str], limit: int, now: float | None = None
    ) -> list[Run]:
        """Claim runs of these crews without an owner.

        With `now`, those due by then; without it, those with no due time, loaded without inputs and meta.
        """

    async def apply(self, decision: Decision, *, retry: bool = True) -> Run | Conflict:
        """Write a decision and return the run as stored, or the conflict that prevented the write.

        With `retry`, retry until the store is available; without it, raise `StoreUnavailable`.
        """

    async def load(self, run_id: str) -> Run | None:
        """Load a complete run."""

    async def find_execution(self, crew: str, kickoff_id: str) -> Run | None:
        """Return the newest run of a crew whose execution has this id."""

    async def find_key(self, source: str, crew: str, key: str) -> Run | None:
        """Return the run that a sender's idempotency key led to."""

    def owned_elsewhere(self, run: Run) -> bool:
        """Return whether another process owns this run."""


class RunTimeStore(Protocol):
    """Stores the run times of crews, from which the planner learns. Every call raises `StoreUnavailable`."""

    async def add(self, crew: str, new: Sequence[RunTime], since: float, limit: int) -> None:
        """Add run times of a crew; keep only the last `limit` of those that ended since then."""

    async def newest(self, crew: str, after: float, limit: int) -> list[RunTime]:
        """Return the last `limit` run times of a crew that ended after then, newest first."""


class DeferredCommands(Protocol):
    """Stores commands that wait for a POST. Every call raises `StoreUnavailable`."""

    async def defer(self, run_id: str, sender: str, now: float) -> bool:
        """Store a command to cancel a run; durable on return. Return False if the run has ended."""

    async def applicable(self, limit: int) -> list[tuple[str, str]]:
        """Return runs that have a command and no POST in progress, each with the command's sender."""

    async def remove(self, run_id: str) -> None:
        """Remove a run's command."""
