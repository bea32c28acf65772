"""Deleting runs and events that are over for long enough and have nothing left to deliver."""

from sqlalchemy import Connection, delete, exists

from bridge.adapters.store.tables import deliveries, events, receivers, runs
from bridge.core.model import DeliveryState


def forget(connection: Connection, ended_before: float) -> int:
    """Delete what ended before then; how many runs that were."""
    waiting = exists().where(
        events.c.run_id == runs.c.run_id,
        deliveries.c.event_id == events.c.event_id,
        deliveries.c.state == DeliveryState.PENDING.value,
    )
    ended = connection.execute(delete(runs).where(runs.c.finished_at < ended_before, ~waiting))
    done = exists().where(deliveries.c.event_id == events.c.event_id, deliveries.c.state == DeliveryState.PENDING.value)
    of_no_run = events.c.run_id.is_(None)
    loose = connection.execute(delete(events).where(of_no_run, events.c.created_at < ended_before, ~done))
    if ended.rowcount or loose.rowcount:
        named = exists().where(deliveries.c.receiver == receivers.c.receiver)
        connection.execute(delete(receivers).where(~named))
    return ended.rowcount
