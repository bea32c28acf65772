"""Classifies database errors: which are transient, which end the process, and what may be shown."""

import sqlite3

from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from bridge.core.errors import StoreBroken, StoreDamaged, StoreUnavailable

_CONFLICTS = frozenset({"40001", "40P01", "23505"})
"""PostgreSQL gave this transaction up in favour of another one: a conflict, a deadlock, or a value that must be unique
and that the other one has committed since we looked."""
_UNAVAILABLE = frozenset({"25006", "25P03", "25P04"})
"""PostgreSQL: it has become a standby, or has ended a transaction or session that took too long."""


def is_transient(error: BaseException) -> bool:
    """Whether the database is unavailable as a whole: busy, full, read-only, or unreachable."""
    if isinstance(error, OperationalError | PoolTimeout):
        return True
    return isinstance(error, DBAPIError) and (error.connection_invalidated or _state(error) in _UNAVAILABLE)


def is_retryable(error: BaseException) -> bool:
    """Whether the same transaction may succeed if repeated at once."""
    return isinstance(error, DBAPIError) and _state(error) in _CONFLICTS


def unavailable(error: BaseException) -> StoreUnavailable:
    """Return the error to raise for a transient one."""
    return StoreUnavailable(
        driver_message(error) if isinstance(error, DBAPIError) else "no free connection to the store"
    )


def driver_message(error: DBAPIError) -> str:
    """The first line of the driver's own words; SQLAlchemy's quote the statement with its values."""
    said = getattr(getattr(error.orig, "diag", None), "message_primary", None) or str(error.orig)
    first, *_ = said.strip().splitlines() or [type(error.orig).__name__]
    return str(first)


def _state(error: DBAPIError) -> str | None:
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


def end_if_broken(context: ExceptionContext) -> None:
    """For the engine's `handle_error`: raise `StoreBroken` or `StoreDamaged`, which end the process."""
    error = context.original_exception
    if not isinstance(error, sqlite3.Error) or not hasattr(error, "sqlite_errorcode"):
        return  # raised by the module itself, not by the library
    code = error.sqlite_errorcode & 0xFF
    if code == sqlite3.SQLITE_IOERR:
        raise StoreBroken(f"the store cannot be relied on: {error}") from None
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        raise StoreDamaged(f"the store is damaged: {error}") from None
