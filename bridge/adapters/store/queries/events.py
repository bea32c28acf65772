"""Reads events in the order in which they were stored."""

from collections.abc import Collection

from sqlalchemy import Connection, func, select

from bridge.adapters.store.decoding import ReportUndecodable, decode_and_report
from bridge.adapters.store.queries.run_lists import ids_within
from bridge.adapters.store.rows import event_from_row
from bridge.adapters.store.schema import events, runs
from bridge.core.delivery.model import Event
from bridge.ports.queries import StoredEvent

BODIES_BYTES = 512 * 1024  # of events that are loaded at once; at least one is


def find_events(connection: Connection, since: float, limit: int) -> list[StoredEvent]:
    """Return events about runs, oldest first, of all clients, so that a stream's cursor moves past those of others."""
    entry = select(events.c.event_id, events.c.stored_at, events.c.crew, runs.c.source)
    of_runs = entry.outerjoin(runs, runs.c.run_id == events.c.run_id)  # outer: events come first in any plan
    found = of_runs.where(events.c.stored_at >= since, events.c.run_id.is_not(None))
    rows = connection.execute(found.order_by(events.c.stored_at, events.c.event_id).limit(limit))
    return [StoredEvent(row.event_id, row.stored_at, row.crew, row.source) for row in rows]


def load_events(connection: Connection, report: ReportUndecodable, event_ids: Collection[str]) -> list[Event]:
    """Return the oldest of these events, up to `BODIES_BYTES`, oldest first; none only if none can be decoded."""
    matching, in_order = events.c.event_id.in_(event_ids), (events.c.stored_at, events.c.event_id)
    sizes = connection.execute(
        select(events.c.event_id, func.length(events.c.body)).where(matching).order_by(*in_order)
    )
    left = [(event_id, size) for event_id, size in sizes]
    found: list[Event] = []
    while left and not found:
        taken = list(ids_within(left, BODIES_BYTES))
        rows = connection.execute(select(events).where(events.c.event_id.in_(taken)).order_by(*in_order))
        found = decode_and_report(rows, event_from_row, "event_id", report)
        left = left[len(taken) :]
    return found


def stored_at(connection: Connection, event_id: str | None = None) -> float | None:
    """Return when an event was stored, or without an id the newest event."""
    if event_id is None:
        return connection.execute(select(func.max(events.c.stored_at))).scalar()
    return connection.execute(select(events.c.stored_at).where(events.c.event_id == event_id)).scalar()
