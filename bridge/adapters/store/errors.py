"""Classifies database errors: transient, retryable, or fatal; and extracts messages that may be shown."""

import re
import sqlite3

from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from bridge.core.errors import StoreBroken, StoreDamaged, StoreUnavailable

_CONFLICTS = frozenset({"40001", "40P01", "23505"})
"""PostgreSQL aborted the transaction because of a concurrent one: serialization failure, deadlock, unique violation."""
_UNAVAILABLE = frozenset({"25006", "25P03", "25P04"})
"""PostgreSQL has become a standby, or has ended a transaction or session that took too long."""
_EACH_HOST = re.compile(r"^- host: .*?: connection failed: (.+)$", re.MULTILINE)


def is_transient(error: BaseException) -> bool:
    """Return whether the whole database is unavailable: busy, full, read-only, or unreachable."""
    if isinstance(error, OperationalError | PoolTimeout):
        return True
    return isinstance(error, DBAPIError) and (error.connection_invalidated or _state(error) in _UNAVAILABLE)


def is_retryable(error: BaseException) -> bool:
    """Return whether the same transaction may succeed if it is retried at once."""
    return isinstance(error, DBAPIError) and _state(error) in _CONFLICTS


def unavailable(error: BaseException) -> StoreUnavailable:
    """Convert a transient error."""
    return StoreUnavailable(
        driver_message(error) if isinstance(error, DBAPIError) else "no free connection to the store"
    )


def driver_message(error: DBAPIError) -> str:
    """Return the first line of the driver's message, or one for each of several hosts.

    SQLAlchemy's message includes the statement and its values.
    """
    message = getattr(getattr(error.orig, "diag", None), "message_primary", None) or str(error.orig)
    if hosts := _EACH_HOST.findall(message):
        return "; ".join(hosts)
    first, *_ = message.strip().splitlines() or [type(error.orig).__name__]
    return str(first)


def _state(error: DBAPIError) -> str | None:
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


def end_if_broken(context: ExceptionContext) -> None:
    """Raise `StoreBroken` or `StoreDamaged` for a fatal error of SQLite; a listener for the event `handle_error`."""
    error = context.original_exception
    if not isinstance(error, sqlite3.Error) or not hasattr(error, "sqlite_errorcode"):
        return  # raised by Python's module, not by SQLite
    code = error.sqlite_errorcode & 0xFF
    if code == sqlite3.SQLITE_IOERR:
        raise StoreBroken(f"the store cannot be relied on: {error}") from None
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        raise StoreDamaged(f"the store is damaged: {error}") from None
