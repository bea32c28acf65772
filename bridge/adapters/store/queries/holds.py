"""Holds accepted runs, so that none is started until an operator releases it. A held run has no due time."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, LargeBinary, cast, delete, func, literal, text, update

from bridge.adapters.store.schema import BACKUP, WAITING, runs, store_metadata
from bridge.core.runs import history


def hold(connection: Connection, now: float, *, always: bool = True) -> int | None:
    """Hold every accepted run, and return how many were not held before.

    Unless `always`, do so only in a backup on which no bridge was started yet; otherwise return None.
    """
    marked = connection.execute(delete(store_metadata).where(store_metadata.c.name == BACKUP)).rowcount
    if not (always or marked):
        return None
    return _change(connection, [runs.c.due_at.is_not(None)], None, *history.added((), "held", now))


def release(connection: Connection, run_id: str | None, crews: Collection[str] | None, by: str, now: float) -> int:
    """Make held runs due: one, or all of these crews (None: of every crew); return how many."""
    conditions: list[ColumnElement[bool]] = [runs.c.due_at.is_(None)]
    if run_id is not None:
        conditions.append(runs.c.run_id == run_id)
    if crews is not None:
        conditions.append(runs.c.crew.in_(sorted(crews)))
    return _change(connection, conditions, now, *history.added((), "command", now, command="release", by=by))


def _change(
    connection: Connection, conditions: Collection[ColumnElement[bool]], due_at: float | None, entry: bytes
) -> int:
    """Set the due time of waiting runs, with an entry in the history of each, which its next write bounds."""
    longer = func.coalesce(runs.c.history, literal(b"")).op("||")(literal(b"\n" + entry))
    values = {"due_at": due_at, "history": cast(longer, LargeBinary), "version": runs.c.version + 1}
    return connection.execute(update(runs).where(text(WAITING), *conditions).values(values)).rowcount
