"""The filters and pages of lists, and the entries of the event stream."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from bridge.core.delivery.model import DeliveryState
from bridge.core.runs.model import State

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
    """Selects runs, newest first; `before`: only older ones. `crews`, `source`: what the caller may see; None: all."""

    state: State | None = None
    crew: str | None = None
    crews: frozenset[str] | None = None
    source: str | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Selects deliveries, newest ids first. `crews`: what the caller may see; None: all.

    `since` (inclusive) and `until` refer to the creation time of the event. `before`: only ids that sort before it.
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
