"""A SQLite file: durable connections, and a lock against a second process."""

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError, OperationalError

from bridge.adapters.store.connections import Connections
from bridge.adapters.store.errors import driver_message, end_if_broken
from bridge.adapters.store.files import WatchedFiles, is_at, make_private, open_private, refuse_foreign_link
from bridge.adapters.store.truncation import OpenFiles
from bridge.core.errors import BridgeError, StoreDamaged, StoreInUse, StoreMisconfigured, StoreUnavailable
from bridge.ports.lifecycle import Health

BUSY_TIMEOUT_MS = 5000
_SUFFIXES = ("", "-wal", "-shm")
"""The files that SQLite uses; it gives the last two the mode of the first."""


class Sqlite:
    """`engine.Database` on one file, for one process."""

    shared = False

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        path = self._url.database
        self._named = None if path is None or path == ":memory:" else Path(path)
        """As the settings have it, perhaps with links."""
        self._path = self._named and self._named.resolve()
        """The file that it leads to, so that a store has one lock and one journal by whatever name."""
        self._watched = WatchedFiles()
        self._open_files: OpenFiles | None = None

    def writer(self) -> Connections:
        """The one writer. It takes the write lock at once: a transaction that read first could only fail later."""
        return self._connections(1, "BEGIN IMMEDIATE")

    def readers(self) -> Connections:
        """Apart from the writer, so that no number of readers keeps it waiting."""
        return self._connections(4, "BEGIN")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a lock file beside the file; the system drops it when the process ends, however it ends."""
        if self._named is None or self._path is None:
            yield
            return
        refuse_foreign_link(self._named)
        lock = _locked(self._path.with_name(f"{self._path.name}.lock"))
        try:
            for suffix in _SUFFIXES:
                make_private(self._beside(suffix), create=not suffix)
            yield
        finally:
            self._watched.clear()
            if self._open_files is not None:
                self._open_files.close()
            os.close(lock)

    def tracked(self) -> None:
        """From now on, every transaction raises `StoreReplaced` once one of the open files is not what it was."""
        if self._path is not None:
            self._watched.add(*(self._beside(suffix) for suffix in (*_SUFFIXES, ".lock")))
            self._open_files = OpenFiles(self._path)

    def verify(self) -> None:
        """Raise `StoreReplaced` if a file that is watched was removed, replaced, truncated, or overwritten."""
        self._watched.verify()
        if self._open_files is not None:
            self._open_files.verify()

    def absent(self) -> Health | None:
        """What to say of a file that does not exist yet."""
        path = self._named or Path()
        if path.exists():
            return None
        if path.is_symlink():
            return Health(ok=False, detail="a symbolic link that leads to no file")
        ok = path.parent.is_dir() and os.access(path.parent, os.W_OK)
        return Health(ok=ok, detail="will be created" if ok else "its folder is missing or cannot be written")

    def check(self, connection: Connection) -> None:
        """Raises `StoreDamaged` for a file that is not sound, `StoreMisconfigured` for one in another encoding."""
        encoding = connection.exec_driver_sql("PRAGMA encoding").scalar()
        if encoding != "UTF-8":
            raise StoreMisconfigured(
                f"the store's encoding is {encoding}, UTF-8 is needed: the bridge did not create it; name another file"
            )
        verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if verdict != "ok":
            raise StoreDamaged(f"the store is damaged: {verdict}")

    def caveat(self, _connection: Connection) -> str | None:
        """Nothing: durability is set on every connection."""
        return None

    def refusal(self, error: DatabaseError) -> BridgeError:
        """What an error at opening means; the driver has one kind for a file that it cannot make sense of."""
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
        event.listen(engine, "handle_error", end_if_broken)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return Connections(engine, number, self.verify)

    def _beside(self, suffix: str) -> Path:
        assert self._path is not None
        return self._path.with_name(self._path.name + suffix)


def _locked(path: Path) -> int:
    """The open lock file, locked; raises `StoreInUse`."""
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
    """Durability is set on every connection and read back, because builds and wrappers change the defaults.

    `synchronous=FULL`: with NORMAL the last commits may be gone after a power loss, and a lost "about to POST" is a
    second bill.
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
