"""Looking through events in the order in which they were stored."""

from collections.abc import Collection

from sqlalchemy import Connection, func, select

from bridge.adapters.store.decoding import ReportUndecodable, readable
from bridge.adapters.store.queries.run_lists import within
from bridge.adapters.store.rows import event_from_row
from bridge.adapters.store.schema import events, runs
from bridge.core.delivery.model import Event
from bridge.ports.queries import StoredEvent

BODIES_BYTES = 512 * 1024  # of events that are loaded together; one at least


def entries(connection: Connection, since: float, limit: int) -> list[StoredEvent]:
    """Select events about runs, oldest first, of all clients, so that a stream's cursor moves past those of others."""
    entry = select(events.c.event_id, events.c.stored_at, events.c.crew, runs.c.source)
    of_runs = entry.outerjoin(runs, runs.c.run_id == events.c.run_id)  # outer: events come first in any plan
    found = of_runs.where(events.c.stored_at >= since, events.c.run_id.is_not(None))
    rows = connection.execute(found.order_by(events.c.stored_at, events.c.event_id).limit(limit))
    return [StoredEvent(row.event_id, row.stored_at, row.crew, row.source) for row in rows]


def whole(connection: Connection, event_ids: Collection[str], report: ReportUndecodable) -> list[Event]:
    """The first of these events, the oldest first, as many as fit into memory that a slow reader may hold.

    None only if none of them can be read.
    """
    these, in_order = events.c.event_id.in_(event_ids), (events.c.stored_at, events.c.event_id)
    sizes = connection.execute(select(events.c.event_id, func.length(events.c.body)).where(these).order_by(*in_order))
    left = [(event_id, size) for event_id, size in sizes]
    found: list[Event] = []
    while left and not found:
        taken = list(within(left, BODIES_BYTES))
        rows = connection.execute(select(events).where(events.c.event_id.in_(taken)).order_by(*in_order))
        found = readable(rows, event_from_row, "event_id", report)
        left = left[len(taken) :]
    return found


def stored_at(connection: Connection, event_id: str | None) -> float | None:
    """When this event was stored, or without an id the newest one."""
    if event_id is None:
        return connection.execute(select(func.max(events.c.stored_at))).scalar()
    return connection.execute(select(events.c.stored_at).where(events.c.event_id == event_id)).scalar()
