"""What the steps and listeners need from the store."""

import math
from collections.abc import Collection, Sequence
from typing import Protocol

from bridge.core.crew.fair_share import Membership
from bridge.core.delivery.model import Attempt, Channel, Delivery, Event
from bridge.core.delivery.outcome import DeliveryOutcome
from bridge.core.delivery.receivers import ConcurrencyLimits
from bridge.core.runs.budget import UNLIMITED, Budgets
from bridge.core.runs.model import Decision, Run, RunTime, State
from bridge.ports.inbound import Accepted
from bridge.ports.queries import DeliveryFilter, Page, RunFilter, StoredEvent


class Store(Protocol):
    """Stores runs and deliveries; `shared`: with other processes. Every write is durable when it returns.

    Reads and `accept` raise `StoreUnavailable` during an outage. Writes that record an effect which has happened
    (`apply`, `record_outcome`) are retried until the store is available, because they must not be lost.
    """

    shared: bool

    async def accept(self, run: Run) -> Accepted:
        """Store a new run, or return the run that the same key or the same redelivered message had created."""

    async def add_deliveries(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries that belong to no run, such as dead letters and notices."""

    async def claim_accepted(
        self,
        crew: str,
        room: int,
        max_running: int,
        now: float,
        limits: Budgets = UNLIMITED,
        max_bytes: float = math.inf,
    ) -> list[Run]:
        """Claim at most `room` due accepted runs of a crew, by priority and age.

        The claim keeps the crew within `max_running`, the crew and the senders within their budgets, and the memory of
        the claimed runs within `max_bytes` (`core.runs.kickoff_memory`), except that one run is always claimed.
        """

    async def seconds_until_budget(self, run: Run, limits: Budgets, now: float) -> float:
        """Return the estimated seconds until the budgets permit an accepted run to start."""

    async def claim(
        self, states: Collection[State], room: int, now: float | None = None, crews: Collection[str] | None = None
    ) -> list[Run]:
        """Claim runs without an owner, of `crews` or of all.

        With `now`, those due by then; without it, those with no due time, loaded without inputs and meta.
        """

    async def apply(self, decision: Decision, *, retry: bool = True) -> Run:
        """Write a decision and return the run as stored; with `retry`, retry until the store is available.

        Raises `Stale` if the run has been written since the decision's version, `ExecutionTaken` if another run of
        the crew has the decision's kickoff id, and `StoreUnavailable` without `retry`.
        """

    async def load(self, run_id: str) -> Run | None:
        """Load a run, with everything that is stored of it."""

    async def load_for_api(self, run_id: str) -> Run | None:
        """Load a run for an API caller, over other connections than the steps' reads."""

    async def peek(self, run_id: str) -> Run | None:
        """Load a run for an API caller, without inputs, meta, progress, and result."""

    async def find_execution(self, crew: str, kickoff_id: str) -> Run | None:
        """Return the newest run of a crew whose execution has this id."""

    async def find_key(self, source: str, crew: str, key: str) -> Run | None:
        """Return the run that a sender's idempotency key led to."""

    async def find_runs(self, filter_: RunFilter) -> Page[Run]:
        """Return runs, newest first, without inputs and large results; a page is also limited in bytes."""

    async def claim_deliveries(self, channels: Sequence[Channel], room: int, now: float) -> list[Delivery]:
        """Claim due deliveries of these channels, the longest due first."""

    async def claim_callbacks(self, room: int, limits: ConcurrencyLimits, now: float) -> list[Delivery]:
        """Claim due callback deliveries: per receiver up to its concurrency limit, for a paused receiver none."""

    async def record_outcome(self, outcome: DeliveryOutcome) -> None:
        """Write the outcome of an attempt, and release the delivery."""

    async def deliveries_for_run(self, run_id: str) -> list[Delivery]:
        """Return the deliveries of a run, without the bodies of their events."""

    async def find_deliveries(self, filter_: DeliveryFilter) -> list[Delivery]:
        """Return deliveries, newest first, without the bodies of their events."""

    async def redeliver(self, filter_: DeliveryFilter, now: float) -> int:
        """Make deliveries due now, with a new retry schedule, and resume their receivers; return how many.

        Deliveries whose attempt is in progress are skipped. The filter's `limit` is ignored.
        """

    async def attempts_for_delivery(self, delivery_id: str) -> list[Attempt]:
        """Return the stored attempts of a delivery, oldest first."""

    async def find_events(self, since: float, limit: int) -> list[StoredEvent]:
        """Return the first `limit` events about runs stored since then, in the order of storage."""

    async def stored_at(self, event_id: str | None = None) -> float | None:
        """Return when an event was stored, or without an id the newest event; None if there is none."""

    async def load_events(self, event_ids: Collection[str]) -> list[Event]:
        """Return the oldest of these events, as many as fit in memory, oldest first; deleted ones are omitted."""

    async def heartbeat(self, now: float) -> None:
        """Record a heartbeat. Raises `ProcessExpired` if another process has expired this one."""

    async def expire_processes(self, now: float, silent_for: float) -> int:
        """Expire processes without a heartbeat for so many seconds and release their rows; return how many."""

    async def rejoin(self, now: float) -> str:
        """After `ProcessExpired`, register under a new name that owns nothing; return the name."""

    def owned_elsewhere(self, run: Run) -> bool:
        """Return whether another process owns this run."""

    async def membership(self) -> dict[str, Membership]:
        """Return, per crew served here, how many processes serve it and how many of its runs are in progress."""

    async def is_served(self, crew: str) -> bool:
        """Return whether any process serves the crew."""

    async def unserved(self) -> dict[str, int]:
        """Return the number of unfinished runs of each crew that no process serves."""

    async def release_runs(self, run_ids: Collection[str]) -> int:
        """Release runs that this process no longer tracks; return how many."""

    async def store_run_times(self, crew: str, new: Sequence[RunTime], since: float, limit: int) -> None:
        """Add run times of a crew; keep only the last `limit` of those that ended since then."""

    async def run_times(self, crew: str, after: float, limit: int) -> list[RunTime]:
        """Return the last `limit` run times of a crew that ended after then, newest first."""

    async def delete_ended_runs(self, ended_before: float, limit: int) -> int:
        """Delete at most `limit` runs that ended before then and have no pending delivery; return how many."""

    async def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of runs and of deliveries per state, under `runs` and `deliveries`."""
