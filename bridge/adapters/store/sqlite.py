"""A SQLite file: durable connections, and a lock that excludes other processes."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from bridge.adapters.store.connections import Connections
from bridge.adapters.store.errors import driver_message, end_if_broken
from bridge.adapters.store.files import WatchedFiles, is_at, make_private, open_private, refuse_foreign_link
from bridge.adapters.store.truncation import OpenFiles
from bridge.core.errors import BridgeError, StoreDamaged, StoreInUse, StoreMisconfigured, StoreUnavailable
from bridge.ports.lifecycle import Health

BUSY_TIMEOUT_MS = 5000
_SUFFIXES = ("", "-wal", "-shm")
"""Suffixes of the files that SQLite uses; it creates the last two with the mode of the first."""


class Sqlite:
    """Implements `database.Database` for one file and one process."""

    shared = False

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        path = self._url.database
        self._named = None if path is None or path == ":memory:" else Path(path)
        """The path in the settings, which may contain symbolic links."""
        self._path = self._named and self._named.resolve()
        """The resolved path, so that a store has one lock file under all its names."""
        self._watched = WatchedFiles()
        self._open_files: OpenFiles | None = None

    def writer(self) -> Connections:
        """Return one connection, whose transactions take the write lock when they begin."""
        return self._connections(1, "BEGIN IMMEDIATE")

    def readers(self) -> Connections:
        """Return connections other than the writer, so that readers never delay it."""
        return self._connections(4, "BEGIN")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold a lock on a file beside the database, which the kernel releases when the process ends."""
        if self._named is None or self._path is None:
            yield
            return
        refuse_foreign_link(self._named)
        lock = _open_locked(self._path.with_name(f"{self._path.name}.lock"))
        try:
            for suffix in _SUFFIXES:
                make_private(self._beside(suffix), create=not suffix)
            yield
        finally:
            self._watched.clear()
            if self._open_files is not None:
                self._open_files.close()
            os.close(lock)

    def open_read_only(self) -> sqlite3.Connection:
        """Open the file for reading, also while another process uses it; raises `StoreUnavailable`."""
        if self._named is None or self._path is None:
            raise StoreUnavailable("the store is in memory")
        refuse_foreign_link(self._named)
        if not self._path.exists():
            raise StoreUnavailable(f"the store {self._named} does not exist")
        return sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, isolation_level=None)

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Yield a connection on which every query reads the same state of the file, while others may write to it."""
        engine = create_engine("sqlite://", creator=self.open_read_only, poolclass=NullPool, hide_parameters=True)
        _configure(engine, "BEGIN")
        with engine.begin() as connection:
            yield connection

    def watch_files(self) -> None:
        """Make every further transaction raise `StoreReplaced` if one of the files was changed by others."""
        if self._path is not None:
            self._watched.add(*(self._beside(suffix) for suffix in (*_SUFFIXES, ".lock")))
            self._open_files = OpenFiles(self._path)

    def verify(self) -> None:
        """Raise `StoreReplaced` if a watched file was removed, replaced, truncated, or overwritten."""
        self._watched.verify()
        if self._open_files is not None:
            self._open_files.verify()

    def health_if_missing(self) -> Health | None:
        """Return whether the file can be created, or None if it exists."""
        path = self._named or Path()
        if path.exists():
            return None
        if path.is_symlink():
            return Health(ok=False, detail="a symbolic link that leads to no file")
        ok = path.parent.is_dir() and os.access(path.parent, os.W_OK)
        return Health(ok=ok, detail="will be created" if ok else "its directory is missing or cannot be written")

    def check(self, connection: Connection) -> None:
        """Raise `StoreDamaged` if `quick_check` fails, and `StoreMisconfigured` for an encoding other than UTF-8."""
        encoding = connection.exec_driver_sql("PRAGMA encoding").scalar()
        if encoding != "UTF-8":
            raise StoreMisconfigured(
                f"the store's encoding is {encoding}, UTF-8 is needed: the bridge did not create it; name another file"
            )
        verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if verdict != "ok":
            raise StoreDamaged(f"the store is damaged: {verdict}")

    def durability_problem(self, _connection: Connection) -> str | None:
        """Return None: every connection is durable."""
        return None

    def may_create_tables(self, _connection: Connection) -> bool:
        """Return True: a file that can be written can be migrated."""
        return True

    def opening_error(self, error: DatabaseError) -> BridgeError:
        """Convert an error at opening; the driver raises other errors than `OperationalError` for damaged files."""
        if isinstance(error, OperationalError):
            return StoreUnavailable(f"the store cannot be opened: {driver_message(error)}")
        return StoreDamaged(f"the store is damaged: {driver_message(error)}")

    def _connections(self, number: int, begin: str) -> Connections:
        engine = create_engine(
            self._url.set(drivername="sqlite", database=str(self._path or ":memory:")),
            pool_size=number,
            max_overflow=0,
            hide_parameters=True,
        )
        event.listen(engine, "connect", _set_up_connection)
        _configure(engine, begin)
        return Connections(engine, number, self.verify)

    def _beside(self, suffix: str) -> Path:
        assert self._path is not None
        return self._path.with_name(self._path.name + suffix)


def _configure(engine: Engine, begin: str) -> None:
    """Let fatal errors end the process, and transactions begin with this statement."""
    event.listen(engine, "handle_error", end_if_broken)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))


def _open_locked(path: Path) -> int:
    """Return an open lock file, locked; raises `StoreInUse`."""
    while True:
        lock = open_private(path)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise StoreInUse(f"another process uses the store {path.with_suffix('')}") from None
        if is_at(path, lock):
            return lock
        os.close(lock)  # removed between opening and locking, so it excludes no process


def _set_up_connection(dbapi_connection: Any, _: Any) -> None:
    """Set durability and read it back, because builds and wrappers of SQLite change the defaults.

    With `synchronous=NORMAL`, a power loss can undo the last commits, such as a `starting`: the execution would be paid
    for twice.
    """
    dbapi_connection.isolation_level = None  # no implicit transactions
    cursor = dbapi_connection.cursor()
    for pragma, wanted in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
        cursor.execute(f"PRAGMA {pragma}={wanted}")
        cursor.execute(f"PRAGMA {pragma}")
        found = cursor.fetchone()[0]
        if found not in (wanted, "memory"):
            raise sqlite3.OperationalError(f"PRAGMA {pragma} is {found!r}, {wanted!r} is needed")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_size_limit=67108864")
    cursor.close()
