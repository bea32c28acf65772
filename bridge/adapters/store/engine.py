"""Opening and closing the database: connections, durability, migrations, the lock against a second process."""

import fcntl
import math
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, make_url, select
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from bridge.adapters.store.store import SqlStore
from bridge.adapters.store.tables import keys, processes
from bridge.core.errors import StoreDamaged, StoreInUse, StoreUnavailable
from bridge.ports import Health

BUSY_TIMEOUT_MS = 5000
_MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def open_store(url: str, process: str, now: float, *, migrate: bool = True) -> AsyncIterator[SqlStore]:
    """The store, ready for use; closing gives back every claim.

    A SQLite store belongs to this process alone while it is open, so whatever another process owned is freed at once.
    Raises `StoreInUse`, `StoreDamaged`, or `StoreUnavailable` (no such folder, a schema of a newer
    version, or an old one and `migrate` off).
    """
    with _exclusive(url):
        async with _engine(url, _WRITER) as writer, _engine(url, _READERS) as reader:
            await _prepare(writer, migrate=migrate)
            store = SqlStore(reader, writer.begin, process, await _key(writer))
            await store.bury(math.inf)  # the lock says that nobody else lives
            await _join(writer, process, now)
            yield store
            await store.close()


async def migrate_store(url: str) -> str:
    """Bring the schema up to date; gives back its revision. Raises as `open_store` does."""
    with _exclusive(url):
        async with _engine(url, _WRITER) as engine:
            await _prepare(engine, migrate=True)
            return _newest_revision()


async def probe_store(url: str) -> Health:
    """Whether the store could be opened; changes nothing and creates no file."""
    absent = _absent(Path(make_url(url).database or ""))
    if absent is not None:
        return absent
    try:
        with _exclusive(url):
            async with _engine(url, _WRITER) as engine:
                await _prepare(engine, migrate=False)
    except StoreInUse:
        return Health(ok=True, detail="in use by a running bridge")
    except (StoreDamaged, StoreUnavailable) as error:
        return Health(ok=False, detail=str(error))
    return Health(ok=True, detail="sound and up to date")


def _absent(path: Path) -> Health | None:
    """What to say of a file that does not exist yet."""
    if path.exists():
        return None
    ok = path.parent.is_dir() and os.access(path.parent, os.W_OK)
    return Health(ok=ok, detail="will be created" if ok else "its folder is missing or cannot be written")


@dataclass(frozen=True, slots=True)
class _Use:
    """What an engine is for: how many connections, how many seconds to wait for one, how transactions begin."""

    connections: int
    patience: float
    begin: str


_WRITER = _Use(connections=1, patience=30.0, begin="BEGIN IMMEDIATE")
"""The one writer. It takes the write lock at once: a transaction that read first and writes later could only fail."""
_READERS = _Use(connections=4, patience=5.0, begin="BEGIN")
"""Apart from the writer, so that no number of readers keeps it waiting."""


@asynccontextmanager
async def _engine(url: str, use: _Use) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(
        make_url(url).set(drivername="sqlite+aiosqlite"),
        pool_size=use.connections,
        max_overflow=0,
        pool_timeout=use.patience,
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "connect", _set_up_connection)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(use.begin))
    try:
        yield engine
    finally:
        await engine.dispose()


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


async def _prepare(engine: AsyncEngine, *, migrate: bool) -> None:
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_check_integrity)
            await connection.run_sync(_refuse_newer)
            await connection.run_sync(_migrate if migrate else _check_revision)
    except OperationalError as error:
        raise StoreUnavailable(f"the store cannot be opened: {error.orig}") from None
    except DatabaseError as error:
        raise StoreDamaged(f"the store is damaged: {error.orig}") from None


def _check_integrity(connection: Connection) -> None:
    verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
    if verdict != "ok":
        raise StoreDamaged(f"the store is damaged: {verdict}")


def _refuse_newer(connection: Connection) -> None:
    """A schema that no migration of ours has made; Alembic would fail on it, and we would write what others misread."""
    found = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()}
    if found is not None and found not in known:
        raise StoreUnavailable(
            f"the store was made by a newer version of the bridge (its schema is {found}, the newest known here is "
            f"{_newest_revision()}): run that version, or restore a backup from before the upgrade"
        )


def _migrate(connection: Connection) -> None:
    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _check_revision(connection: Connection) -> None:
    found, needed = MigrationContext.configure(connection).get_current_revision(), _newest_revision()
    if found != needed:
        raise StoreUnavailable(f"the store's schema is {found or 'empty'}, {needed} is needed: run `migrate`")


def _newest_revision() -> str:
    revision = ScriptDirectory.from_config(_alembic()).get_current_head()
    assert revision is not None
    return revision


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


async def _key(engine: AsyncEngine) -> bytes:
    """The store's own secret, made once: tokens that were issued stay good after a restart, and in every process."""
    async with engine.begin() as connection:
        found = (await connection.execute(select(keys.c.value).where(keys.c.name == "amp"))).scalar_one_or_none()
        if found is None:
            found = secrets.token_bytes(32)
            await connection.execute(keys.insert().values(name="amp", value=found))
        return found


async def _join(engine: AsyncEngine, process: str, now: float) -> None:
    async with engine.begin() as connection:
        await connection.execute(processes.insert().values(name=process, beat_at=now))


@contextmanager
def _exclusive(url: str) -> Iterator[None]:
    """Hold a lock file beside a SQLite file for life; the system drops it when the process ends, however it ends."""
    path = make_url(url).database
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
