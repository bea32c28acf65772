"""Deleting runs and events that are over for long enough and have nothing left to deliver."""

from sqlalchemy import Connection, delete, exists, select

from bridge.adapters.store.schema import deliveries, events, receivers, runs
from bridge.core.delivery.model import DeliveryState


def forget(connection: Connection, ended_before: float, most: int) -> int:
    """Delete what ended before then; how many runs that were.

    At most so many runs, the oldest first, and so many events of no run: meanwhile no other transaction can write, and
    a database with a time limit would undo a larger portion each time.
    """
    pending = (deliveries.c.event_id == events.c.event_id) & (deliveries.c.state == DeliveryState.PENDING.value)
    waiting = exists().where(events.c.run_id == runs.c.run_id, pending)
    old = select(runs.c.run_id).where(runs.c.finished_at < ended_before, ~waiting).order_by(runs.c.finished_at)
    ended = connection.execute(delete(runs).where(runs.c.run_id.in_(old.limit(most))))
    of_no_run = events.c.run_id.is_(None)
    done = select(events.c.event_id).where(of_no_run, events.c.created_at < ended_before, ~exists().where(pending))
    loose = connection.execute(delete(events).where(events.c.event_id.in_(done.limit(most))))
    if ended.rowcount or loose.rowcount:
        named = exists().where(deliveries.c.receiver == receivers.c.receiver)
        connection.execute(delete(receivers).where(~named))
    return ended.rowcount
