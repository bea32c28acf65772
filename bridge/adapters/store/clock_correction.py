"""Corrects stored times after the clock was set back while no process ran, so that nothing due waits too long."""

from sqlalchemy import Connection, func, select, update

from bridge.adapters.store.rows import shift_question_times
from bridge.adapters.store.schema import deliveries, events, processes, runs, webhook_inbox

TOLERANCE = 5.0  # seconds
_PAST = (runs.c.accepted_at, runs.c.sent_at, runs.c.finished_at, deliveries.c.delivered_at, processes.c.heartbeat_at)


def follow_clock(connection: Connection, now: float) -> float:
    """Move stored times by the seconds that the clock was set back, if any were stored in its future; return them."""
    latest = [connection.execute(select(func.max(column))).scalar() for column in _PAST]
    back = max((at for at in latest if at is not None), default=now) - now
    if back <= TOLERANCE:
        return 0.0
    connection.execute(update(runs).values(due_at=runs.c.due_at - back).where(runs.c.due_at.is_not(None)))
    connection.execute(update(runs).values(expires_at=runs.c.expires_at - back).where(runs.c.expires_at.is_not(None)))
    open_runs = update(runs).where(runs.c.finished_at.is_(None), runs.c.started_at.is_not(None))
    connection.execute(open_runs.values(started_at=runs.c.started_at - back))
    _move_questions(connection, back)
    connection.execute(update(deliveries).values(due_at=deliveries.c.due_at - back))
    inbox = webhook_inbox.c
    connection.execute(update(webhook_inbox).values(due_at=inbox.due_at - back, received_at=inbox.received_at - back))
    ahead = update(events).where(events.c.stored_at > now)
    connection.execute(ahead.values(stored_at=events.c.stored_at - back))
    for column in _PAST:  # otherwise every start would move all times again
        connection.execute(update(column.table).values({column.name: now}).where(column > now))
    return back


def _move_questions(connection: Connection, back: float) -> None:
    """Move the deadlines of questions; otherwise humans would have too much time for an answer."""
    human_inputs = select(runs.c.run_id, runs.c.human_input).where(
        runs.c.finished_at.is_(None), runs.c.human_input.is_not(None)
    )
    for run_id, human_input in connection.execute(human_inputs).all():
        connection.execute(
            update(runs).where(runs.c.run_id == run_id).values(human_input=shift_question_times(human_input, back))
        )
