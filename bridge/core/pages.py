"""Values that lists consist of: pages, and entries of the stream of events."""

from dataclasses import dataclass
from typing import Generic, TypeVar

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
