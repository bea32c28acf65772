"""What the HTTP API needs from the store: lists, pages, and the event stream."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from bridge.core.delivery.model import Attempt, Delivery, DeliveryState, Event, Receiver
from bridge.core.runs.budget import Budget, SpentBudget
from bridge.core.runs.model import Run, State

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event about a run, without its body: when it was stored, and the fields that decide who may read it."""

    event_id: str
    stored_at: float
    crew: str | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page of a list; `more`: further items follow."""

    items: list[Item]
    more: bool


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Selects runs, newest first; `before`: only older ones. `crews`, `source`: what the caller may see; None: all.

    `since` (inclusive) and `until` refer to the creation of the run's id, in seconds since the epoch. `correlation_id`
    is that of the run's events. `meta`: values of searchable members as text, all of which must match (`schema`).
    `prefix`: the beginning of the run's id.
    """

    state: State | None = None
    crew: str | None = None
    crews: frozenset[str] | None = None
    source: str | None = None
    before: str | None = None
    limit: int = 50
    idempotency_key: str | None = None
    kickoff_id: str | None = None
    correlation_id: str | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    since: float | None = None
    until: float | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Selects deliveries, newest ids first. `crews`: what the caller may see; None: all.

    `receiver`: a scheme, host, and port, which only `redeliver` and `count_redeliverable` use. `since` (inclusive) and
    `until` refer to the creation time of the event. `before`: only ids that sort before it.
    """

    delivery_id: str | None = None
    state: DeliveryState | None = None
    crew: str | None = None
    crews: frozenset[str] | None = None
    run_id: str | None = None
    since: float | None = None
    until: float | None = None
    before: str | None = None
    limit: int = 50
    receiver: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """The slots that each crew's runs hold, and the spent budgets of crews and of senders.

    `writable`: the last transaction of this process succeeded, without which no run can be started.
    """

    slots_held: Mapping[str, int] = field(default_factory=dict)
    crew_budgets: Mapping[str, SpentBudget] = field(default_factory=dict)
    sender_budgets: Mapping[str, SpentBudget] = field(default_factory=dict)
    writable: bool = True


@dataclass(frozen=True, slots=True)
class Backlog:
    """Rows in one state: how many, and when the oldest was accepted or stored (seconds since the epoch)."""

    number: int
    oldest_at: float


@dataclass(frozen=True, slots=True)
class StoreFigures:
    """The unfinished rows of the store, for the metrics; without a key, there are none.

    `runs`: by crew and state, not final. `deliveries`: by channel and state, pending and dead. `budgets_used`: the used
    part of each crew's budget; 1: used up, more: the budget was lowered. `slots_held`: by crew.
    """

    runs: Mapping[tuple[str, str], Backlog]
    deliveries: Mapping[tuple[str, str], Backlog]
    budgets_used: Mapping[str, float]
    slots_held: Mapping[str, int]


RunEnds = Mapping[tuple[str, str], int]
"""How many runs ended within one minute, by crew and final state."""


class Queries(Protocol):
    """Answers the HTTP API over connections of its own, so that no step waits for a caller.

    Every call raises `StoreUnavailable` during an outage.
    """

    async def load_for_api(self, run_id: str) -> Run | None:
        """Load a run for an API caller, over other connections than the steps' reads."""

    async def peek(self, run_id: str) -> Run | None:
        """Load a run for an API caller, without inputs, meta, progress, and result."""

    async def find_runs(self, filter_: RunFilter) -> Page[Run]:
        """Return runs, newest first, without inputs and large results; a page is also limited in bytes."""

    async def deliveries_for_run(self, run_id: str) -> list[Delivery]:
        """Return the deliveries of a run, without the bodies of their events."""

    async def find_deliveries(self, filter_: DeliveryFilter) -> list[Delivery]:
        """Return deliveries, newest first, without the bodies of their events."""

    async def attempts_for_delivery(self, delivery_id: str) -> list[Attempt]:
        """Return the stored attempts of a delivery, oldest first."""

    async def redeliver(self, filter_: DeliveryFilter, now: float) -> int:
        """Make deliveries due now, with a new retry schedule, and resume their receivers; return how many.

        Deliveries whose attempt is in progress are skipped. The filter's `limit` is ignored.
        """

    async def release(self, run_id: str | None, crews: Collection[str] | None, by: str, now: float) -> int:
        """Release held runs for a named sender: one, or all of these crews (None: of every crew); return how many."""

    async def count_redeliverable(self, filter_: DeliveryFilter) -> int:
        """Return how many deliveries `redeliver` would change."""

    async def discard(self, delivery_id: str, by: str) -> None:
        """Make a delivery dead if it is pending and no attempt is in progress; its last error says by whom."""

    async def failing_receivers(self, crews: Collection[str] | None) -> list[Receiver]:
        """Return the failing and paused receivers of deliveries of these crews (None: all), by name; at most 1,000."""

    async def resume_receivers(self, name: str | None, crews: Collection[str] | None) -> int:
        """Resume the paused receiver with this name (None: all) that has deliveries of these crews; return how many."""

    async def find_events(self, since: float, limit: int) -> list[StoredEvent]:
        """Return the first `limit` events about runs stored since then, in the order of storage."""

    async def stored_at(self, event_id: str | None = None) -> float | None:
        """Return when an event was stored, or without an id the newest event; None if there is none."""

    async def load_events(self, event_ids: Collection[str]) -> list[Event]:
        """Return the oldest of these events, as many as fit in memory, oldest first; deleted ones are omitted."""

    async def figures(self, budgets: Mapping[str, Budget], now: float) -> StoreFigures:
        """Return the figures of the whole store, and what is used of the budgets, by crew."""

    async def run_ends(self, minutes: Collection[float]) -> Mapping[float, RunEnds]:
        """Return the runs that ended in each of these minutes, given by their first second since the epoch."""

    async def usage(self, crews: Mapping[str, Budget | None], senders: Mapping[str, Budget], now: float) -> Usage:
        """Return what these crews and senders use of their slots and budgets; None: the crew has no budget."""

    async def crews_served(self) -> Collection[str]:
        """Return the crews that any process serves."""
