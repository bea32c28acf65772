"""What lists are made of: filters, pages, and entries of the stream of events."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from bridge.core.delivery.model import DeliveryState
from bridge.core.runs.model import State

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event about a run without its content: when it was stored, and what decides who may see it."""

    event_id: str
    stored_at: float
    crew: str | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """The first items of a list; `more`: others follow."""

    items: list[Item]
    more: bool


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list, newest first: older than `before`. `crews`, `source`: what the asker may see; None: all."""

    state: State | None = None
    crew: str | None = None
    crews: frozenset[str] | None = None
    source: str | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries, the newest ids first. `crews`: what the asker may see; None: all.

    `since` (inclusive) and `until` are about when the event was made. `before`: only ids that sort before this one.
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
