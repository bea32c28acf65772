"""Deletes runs and events past their retention that have no pending delivery."""

from sqlalchemy import Connection, delete, exists, select

from bridge.adapters.store.schema import deliveries, events, receivers, runs
from bridge.core.delivery.model import DeliveryState


def delete_ended_runs(connection: Connection, ended_before: float, limit: int) -> int:
    """Delete runs that ended before then, and events of no run that were created before then; return how many runs.

    At most `limit` of each, oldest first, because no other transaction can write meanwhile, and a larger deletion would
    exceed the statement timeout.
    """
    pending = (deliveries.c.event_id == events.c.event_id) & (deliveries.c.state == DeliveryState.PENDING.value)
    waiting = exists().where(events.c.run_id == runs.c.run_id, pending)
    old = select(runs.c.run_id).where(runs.c.finished_at < ended_before, ~waiting).order_by(runs.c.finished_at)
    ended = connection.execute(delete(runs).where(runs.c.run_id.in_(old.limit(limit))))
    of_no_run = events.c.run_id.is_(None)
    done = select(events.c.event_id).where(of_no_run, events.c.created_at < ended_before, ~exists().where(pending))
    deleted_events = connection.execute(delete(events).where(events.c.event_id.in_(done.limit(limit))))
    if ended.rowcount or deleted_events.rowcount:
        referenced = exists().where(deliveries.c.receiver == receivers.c.receiver)
        connection.execute(delete(receivers).where(~referenced))
    return ended.rowcount
