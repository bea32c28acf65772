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

from bridge.adapters.store.broken import end_if_broken
from bridge.adapters.store.threads import Connections
from bridge.adapters.store.weather import words
from bridge.core.errors import BridgeError, StoreDamaged, StoreInUse, StoreMisconfigured, StoreUnavailable
from bridge.ports import Health

BUSY_TIMEOUT_MS = 5000


class Sqlite:
    """`engine.Database` on one file, for one process."""

    shared = False

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    def writer(self) -> Connections:
        """The one writer. It takes the write lock at once: a transaction that read first could only fail later."""
        return self._connections(1, "BEGIN IMMEDIATE")

    def readers(self) -> Connections:
        """Apart from the writer, so that no number of readers keeps it waiting."""
        return self._connections(4, "BEGIN")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a lock file beside the file; the system drops it when the process ends, however it ends."""
        path = self._url.database
        if path is None or path == ":memory:":
            yield
            return
        try:
            lock = Path(f"{path}.lock").open("w")  # noqa: SIM115 - held until the store is closed
        except OSError as error:
            raise StoreUnavailable(f"the store cannot be opened: {error.strerror}: {error.filename}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StoreInUse(f"another process uses the store {path}") from None
            yield

    def absent(self) -> Health | None:
        """What to say of a file that does not exist yet."""
        path = Path(self._url.database or "")
        if path.exists():
            return None
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
            return StoreUnavailable(f"the store cannot be opened: {words(error)}")
        return StoreDamaged(f"the store is damaged: {words(error)}")

    def _connections(self, number: int, begin: str) -> Connections:
        engine = create_engine(
            self._url.set(drivername="sqlite"),
            pool_size=number,
            max_overflow=0,
            hide_parameters=True,
        )
        event.listen(engine, "connect", _set_up_connection)
        event.listen(engine, "handle_error", end_if_broken)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        return Connections(engine, number)


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
