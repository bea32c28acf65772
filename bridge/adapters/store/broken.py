"""Errors of SQLite after which the process must not go on: the disk failed, or the file is not what it was."""

import sqlite3

from sqlalchemy.engine import ExceptionContext

from bridge.core.errors import StoreBroken, StoreDamaged


def end_if_broken(context: ExceptionContext) -> None:
    """For the engine's `handle_error`: raises `StoreBroken` or `StoreDamaged`, which nobody takes for weather."""
    error = context.original_exception
    if not isinstance(error, sqlite3.Error) or not hasattr(error, "sqlite_errorcode"):
        return  # raised by the module itself, not by the library
    code = error.sqlite_errorcode & 0xFF
    if code == sqlite3.SQLITE_IOERR:
        raise StoreBroken(f"the store cannot be relied on: {error}") from None
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        raise StoreDamaged(f"the store is damaged: {error}") from None
