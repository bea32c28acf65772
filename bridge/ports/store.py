"""What the steps and listeners need from the store."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.core.crew.fair_share import Membership
from bridge.core.crew.webhooks import Kind
from bridge.core.delivery.model import Attempt, Channel, Delivery, Event
from bridge.core.delivery.outcome import DeliveryOutcome
from bridge.core.delivery.receivers import ConcurrencyLimits
from bridge.core.runs.budget import UNLIMITED, Budgets
from bridge.core.runs.model import Decision, Run, RunTime, State
from bridge.ports.inbound import Accepted
from bridge.ports.queries import DeliveryFilter, Page, RunFilter, StoredEvent


@dataclass(frozen=True, slots=True)
class RelayedWebhook:
    """A webhook of the crew API on its way to the process that owns the run: for which attempt, its kind, its JSON."""

    run_id: str
    attempt: int
    kind: Kind
    content: Any


class Store(Protocol):
    """Where runs and deliveries live; `shared` with other processes or not. Every write is durable when it returns.

    Reads and `accept` raise `StoreUnavailable` while the store cannot be used. Writes of what has happened already
    (`apply`, `record_outcome`) are retried for as long as it takes instead, because they must not be lost.
    """

    shared: bool

    async def accept(self, run: Run) -> Accepted:
        """Store a new run, or find the one that the same key or the same redelivered message had made before."""

    async def file(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries that belong to no run."""

    async def claim_accepted(
        self, crew: str, room: int, max_running: int, now: float, limits: Budgets = UNLIMITED
    ) -> list[Run]:
        """Take due accepted runs of a crew, by priority and age, at most `room`.

        No more than keep the crew within `max_running`, and it and the senders of the runs within their budgets.
        """

    async def seconds_until_budget(self, run: Run, limits: Budgets, now: float) -> float:
        """For how many seconds a waiting run has to wait for its budgets, as far as can be foreseen."""

    async def claim(
        self, states: Collection[State], room: int, now: float | None = None, crews: Collection[str] | None = None
    ) -> list[Run]:
        """Take runs that nobody owns, of these crews or all: due by `now`, or never, then without inputs and meta."""

    async def apply(self, decision: Decision, *, retry: bool = True) -> Run:
        """Write a decision, if `retry` trying for as long as it takes; gives back the run as stored.

        Raises `Stale` if somebody else wrote the run meanwhile, `ExecutionTaken` if the decision gives it a kickoff id
        that another run of the crew has, `StoreUnavailable` if it is not `retry`.
        """

    async def load(self, run_id: str) -> Run | None:
        """One run."""

    async def show(self, run_id: str) -> Run | None:
        """One run for a caller of the API, who waits for others of its kind and keeps no step waiting."""

    async def peek(self, run_id: str) -> Run | None:
        """How a run stands, for such a caller: without inputs, meta, progress and result."""

    async def find_execution(self, crew: str, kickoff_id: str) -> Run | None:
        """The newest run of a crew whose execution has this id."""

    async def find_key(self, source: str, crew: str, key: str) -> Run | None:
        """The run that a sender's idempotency key led to."""

    async def find_runs(self, which: RunFilter) -> Page[Run]:
        """Runs, newest first, without their inputs and large results; a page is bounded in bytes as well."""

    async def claim_deliveries(self, channels: Sequence[Channel], room: int, now: float) -> list[Delivery]:
        """Take due deliveries of these channels, the longest due first."""

    async def claim_callbacks(self, room: int, shares: ConcurrencyLimits, now: float) -> list[Delivery]:
        """Take due deliveries to callback URLs, no more of one receiver than its share, and none of a paused one."""

    async def record_outcome(self, outcome: DeliveryOutcome) -> None:
        """Write what became of a claimed delivery, and give it back."""

    async def deliveries_for_run(self, run_id: str) -> list[Delivery]:
        """The deliveries of one run, without the bodies of their events."""

    async def find_deliveries(self, which: DeliveryFilter) -> list[Delivery]:
        """Deliveries, the newest first, without the bodies of their events."""

    async def redeliver(self, which: DeliveryFilter, now: float) -> int:
        """Have deliveries sent again, at once and with a whole schedule; how many. Resumes their receivers.

        Those that are being sent at this moment are left alone. The filter's `limit` does not count.
        """

    async def attempts_for_delivery(self, delivery_id: str) -> list[Attempt]:
        """The attempts of one delivery that are kept, the first one first."""

    async def find_events(self, since: float, limit: int) -> list[StoredEvent]:
        """The first events about runs that were stored since then, in the order in which they were stored."""

    async def stored_at(self, event_id: str | None = None) -> float | None:
        """When an event was stored, or without an id the newest one; None if there is none."""

    async def load_events(self, event_ids: Collection[str]) -> list[Event]:
        """The first of these events, as many as fit; the oldest first; what is forgotten by now is left out."""

    async def heartbeat(self, now: float) -> None:
        """Say that this process lives. Raises `ProcessExpired` if the others have given it up."""

    async def expire_processes(self, now: float, silent_for: float) -> int:
        """Free what belongs to processes without a sign of life for so many seconds; how many processes that were."""

    async def rejoin(self, now: float) -> str:
        """After `ProcessExpired`: live on under another name, which is given back, owning nothing."""

    def owned_elsewhere(self, run: Run) -> bool:
        """Whether another process owns this run."""

    async def membership(self) -> dict[str, Membership]:
        """For each crew that this process serves: how many processes do so, and how many runs are under way."""

    async def is_served(self, crew: str) -> bool:
        """Whether this process or another one serves the crew."""

    async def unserved(self) -> dict[str, int]:
        """How many runs that have not ended there are of each crew that no process serves."""

    async def release_runs(self, run_ids: Collection[str]) -> int:
        """Give back runs under way that this process follows no more; how many those were."""

    async def relay_webhook(self, webhook: RelayedWebhook) -> None:
        """Leave a hint for the process that owns its run."""

    async def collect_webhooks(self, room: int) -> list[RelayedWebhook]:
        """Take at most `room` hints that were left for runs of this process."""

    async def store_run_times(self, crew: str, new: Sequence[RunTime], since: float, most: int) -> None:
        """Add run times; of all that the crew has, only the last `most` are kept that ended since then."""

    async def run_times(self, crew: str, after: float, most: int) -> list[RunTime]:
        """The last `most` run times of a crew that ended after then, the newest first."""

    async def forget(self, ended_before: float, most: int) -> int:
        """Delete at most so many runs that ended before then and have nothing left to deliver; how many those were."""

    async def counts(self) -> dict[str, dict[str, int]]:
        """How many runs per state and deliveries per state, under `runs` and `deliveries`."""
