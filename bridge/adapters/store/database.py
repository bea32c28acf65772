"""Opens and closes the store: the database, its schema, and the membership of this process."""

import math
import secrets
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractContextManager, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Protocol

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, select
from sqlalchemy.exc import DatabaseError

from bridge.adapters.store import dialect
from bridge.adapters.store.clock_correction import follow_clock
from bridge.adapters.store.connections import Connections
from bridge.adapters.store.postgresql import Postgresql
from bridge.adapters.store.schema import store_metadata
from bridge.adapters.store.sqlite import Sqlite
from bridge.adapters.store.store import SqlStore
from bridge.core.errors import BridgeError, StoreDamaged, StoreInUse, StoreUnavailable
from bridge.observability.logging import log_fault
from bridge.ports.lifecycle import Health, ReportFault

log = structlog.get_logger()

COPYING = "copying"
"""The row of `store_metadata` that says that a copy into this store is not finished."""
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database(Protocol):
    """What the two databases do differently around the statements, which are the same for both."""

    shared: bool
    """Whether several processes may use it at once."""

    def writer(self) -> Connections:
        """For the one that writes."""

    def readers(self) -> Connections:
        """For those who read: the bridge's own steps, and apart from them the callers of the API."""

    def held(self) -> AbstractContextManager[None]:
        """Keeps others out where only one process may be in. Raises `StoreInUse`, `StoreUnavailable`."""

    def tracked(self) -> None:
        """From now on, transactions raise `StoreReplaced` once a file of the database is not what it was."""

    def verify(self) -> None:
        """Raise `StoreReplaced` if a file that is watched was removed, replaced, truncated, or overwritten."""

    def absent(self) -> Health | None:
        """What to say of a database that does not exist yet; None: it may exist."""

    def check(self, connection: Connection) -> None:
        """Before anything else, at the start of the transaction that looks at the schema.

        Raises `StoreDamaged`, `StoreMisconfigured`.
        """

    def caveat(self, connection: Connection) -> str | None:
        """What makes writes less durable than they should be, in a sentence; None: nothing."""

    def refusal(self, error: DatabaseError) -> BridgeError:
        """What an error at opening means to the operator."""


def database(url: str, *, pooler: bool = False) -> Database:
    """The database that a URL names."""
    return Sqlite(url) if url.startswith("sqlite:") else Postgresql(url, pooler=pooler)


def _nothing() -> None:
    """Ignore stale writes."""


@asynccontextmanager
async def open_store(
    url: str,
    process: str,
    now: float,
    *,
    migrate: bool = True,
    pooler: bool = False,
    on_stale: Callable[[], None] = _nothing,
    crews: Collection[str] = (),
    report: ReportFault = log_fault,
) -> AsyncIterator[SqlStore]:
    """The store, ready for use; closing releases every claim. `on_stale` is called for each discarded stale write.

    `crews`: those that this process serves. A SQLite store belongs to this process alone while it is open, so whatever
    another process owned is freed at once.
    Raises `StoreInUse`, `StoreDamaged`, or `StoreUnavailable` (cannot be reached, no such folder, a schema of a newer
    version, or an old one and `migrate` off).
    """
    base = database(url, pooler=pooler)
    async with (
        prepared(base, migrate=migrate) as writer,
        opened(base.readers()) as reader,
        opened(base.readers()) as api,
    ):
        await writer.run(_refuse_unfinished_copy)
        if (caveat := await writer.run(base.caveat)) is not None:
            log.warning("store_durability_reduced", reason=caveat)
        key = await writer.run(_key)
        store = SqlStore(
            reader,
            writer.run,
            process,
            key,
            on_stale,
            base.verify,
            shared=base.shared,
            crews=crews,
            api_reader=api,
            report=report,
        )
        if not base.shared:
            await _follow_clock(writer, now)
            await store.expire_processes(now, -math.inf)  # no other process uses it
        await store.join(now)
        yield store
        await store.close()


async def migrate_store(url: str, *, pooler: bool = False) -> str:
    """Bring the schema up to date; return its revision. Raises as `open_store` does."""
    async with prepared(database(url, pooler=pooler), migrate=True):
        return _newest_revision()


async def probe_store(url: str, *, pooler: bool = False) -> Health:
    """Whether the store could be opened; changes nothing and creates no file."""
    base = database(url, pooler=pooler)
    absent = base.absent()
    if absent is not None:
        return absent
    try:
        async with prepared(base, migrate=False) as writer:
            caveat = await writer.run(base.caveat)
            return Health(ok=True, detail="; ".join(filter(None, ["sound and up to date", caveat])))
    except StoreInUse:
        return Health(ok=True, detail="in use by a running bridge")
    except (StoreDamaged, StoreUnavailable) as error:
        return Health(ok=False, detail=str(error))


@asynccontextmanager
async def opened(connections: Connections) -> AsyncIterator[Connections]:
    """Close them at the end."""
    try:
        yield connections
    finally:
        await connections.close()


@asynccontextmanager
async def prepared(base: Database, *, migrate: bool) -> AsyncIterator[Connections]:
    """The writer of a database that is ours, sound, and has the newest schema. Raises as `open_store` does."""
    with base.held():
        async with opened(base.writer()) as writer:
            await _prepare(base, writer, migrate=migrate)
            base.tracked()
            yield writer


async def _prepare(base: Database, writer: Connections, *, migrate: bool) -> None:
    """Check the database and bring its schema up to date, or only check that it is."""

    def look(connection: Connection) -> None:
        base.check(connection)
        _refuse_newer(connection)
        (upgrade if migrate else _check_revision)(connection)

    try:
        await writer.run(look)
    except DatabaseError as error:
        raise base.refusal(error) from None


def _refuse_newer(connection: Connection) -> None:
    """A schema that no migration of ours has made; Alembic would fail on it, and we would write what others misread."""
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None and found not in _revisions():
        raise StoreUnavailable(
            f"the store was made by a newer version of the bridge (its schema is {found}, the newest known here is "
            f"{_newest_revision()}): run that version, or restore a backup from before the upgrade"
        )


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to this one."""
    config = _alembic()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _check_revision(connection: Connection) -> None:
    found, needed = MigrationContext.configure(connection).get_current_revision(), _newest_revision()
    if found != needed:
        raise StoreUnavailable(f"the store's schema is {found or 'empty'}, {needed} is needed: run `migrate`")


def _newest_revision() -> str:
    return _revisions()[0]


@cache
def _revisions() -> list[str]:
    """All that are known, the newest first; each is a file that must be loaded, so they are read once."""
    return [script.revision for script in ScriptDirectory.from_config(_alembic()).walk_revisions()]


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _refuse_unfinished_copy(connection: Connection) -> None:
    if connection.execute(select(store_metadata.c.name).where(store_metadata.c.name == COPYING)).first():
        raise StoreUnavailable("the store is an unfinished copy: run `store copy` again")


def _key(connection: Connection) -> bytes:
    """The store's own secret, made once: tokens that were issued stay good after a restart, and in every process."""
    connection.execute(
        dialect.insert_or_ignore(connection, store_metadata).values(name="amp", value=secrets.token_bytes(32))
    )
    found: bytes = connection.execute(select(store_metadata.c.value).where(store_metadata.c.name == "amp")).scalar_one()
    return found


async def _follow_clock(writer: Connections, now: float) -> None:
    back = await writer.run(lambda connection: follow_clock(connection, now))
    if back:
        log.warning("clock_set_back", by_s=round(back))
