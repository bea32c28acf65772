"""Looking through events in the order in which they were stored."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, func, select

from bridge.adapters.store.tables import events, runs
from bridge.ports import EventFilter


def listing(which: EventFilter) -> Select[Any]:
    """Ids and times of events about runs, the oldest first."""
    query = select(events.c.event_id, events.c.stored_at).where(
        events.c.stored_at >= which.since, events.c.run_id.is_not(None)
    )
    if which.crews is not None:
        query = query.where(events.c.crew.in_(sorted(which.crews)))
    if which.source is not None:
        query = query.join(runs, runs.c.run_id == events.c.run_id).where(runs.c.source == which.source)
    return query.order_by(events.c.stored_at, events.c.event_id).limit(which.limit)


def whole(event_ids: Collection[str]) -> Select[Any]:
    """These events, the oldest first."""
    wanted = select(events).where(events.c.event_id.in_(event_ids))
    return wanted.order_by(events.c.stored_at, events.c.event_id)


def stored_at(event_id: str | None) -> Select[Any]:
    """When this event was stored, or without an id the newest one."""
    if event_id is None:
        return select(func.max(events.c.stored_at))
    return select(events.c.stored_at).where(events.c.event_id == event_id)
