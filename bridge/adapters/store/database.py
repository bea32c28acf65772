"""Opens the store: connects to the database, migrates its schema, and registers this process."""

import math
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import Protocol

import structlog
from sqlalchemy import Connection, String, column, inspect, select, table
from sqlalchemy.exc import DatabaseError

from bridge.adapters.store import dialect
from bridge.adapters.store.clock_correction import follow_clock
from bridge.adapters.store.connections import Connections
from bridge.adapters.store.schema import COPYING, REVISION, store_metadata
from bridge.adapters.store.sqlite import Sqlite
from bridge.adapters.store.store import UNCOUNTED, SqlStore
from bridge.core.errors import BridgeError, StoreDamaged, StoreInUse, StoreUnavailable
from bridge.observability.logging import log_fault
from bridge.ports.lifecycle import Health, ReportFault
from bridge.ports.metrics import StoreMetrics

log = structlog.get_logger()

_VERSION = table("alembic_version", column("version_num", String))


class Database(Protocol):
    """A kind of database: its connections, its locks, and its checks. The statements are the same for both kinds."""

    shared: bool
    """Whether several processes may use the database at the same time."""

    def writer(self) -> Connections:
        """Return the connection for all writes."""

    def readers(self) -> Connections:
        """Return a new pool of connections for reads."""

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Read one state of the database, also while processes use it. Raises `StoreUnavailable`."""

    def locked(self) -> AbstractContextManager[None]:
        """Exclude other processes unless `shared`. Raises `StoreInUse` or `StoreUnavailable`."""

    def watch_files(self) -> None:
        """Make every further transaction raise `StoreReplaced` if a file of the database was changed by others."""

    def verify(self) -> None:
        """Raise `StoreReplaced` if a watched file was removed, replaced, truncated, or overwritten."""

    def health_if_missing(self) -> Health | None:
        """Return whether the database can be created, or None if it may exist already."""

    def check(self, connection: Connection) -> None:
        """Check the database at the start of the transaction that checks or migrates the schema.

        Raises `StoreDamaged` or `StoreMisconfigured`.
        """

    def durability_problem(self, connection: Connection) -> str | None:
        """Return a sentence that says why confirmed writes could be lost, or None if they are durable."""

    def may_create_tables(self, connection: Connection) -> bool:
        """Return whether this connection may migrate an empty database."""

    def opening_error(self, error: DatabaseError) -> BridgeError:
        """Convert an error of the driver while the database is opened."""


def database(url: str, *, pooler: bool = False) -> Database:
    """Return the database that a URL names."""
    if url.startswith("sqlite:"):
        return Sqlite(url)
    from bridge.adapters.store.postgresql import Postgresql  # noqa: PLC0415 - psycopg takes long to import

    return Postgresql(url, pooler=pooler)


@asynccontextmanager
async def open_store(
    base: Database,
    process: str,
    now: float,
    *,
    migrate: bool = True,
    crews: Collection[str] = (),
    report: ReportFault = log_fault,
    metrics: StoreMetrics = UNCOUNTED,
) -> AsyncIterator[SqlStore]:
    """Open the store; closing it releases every claim.

    `process`: the name under which this process joins; `now`: seconds since the epoch; `crews`: those that this process
    serves. No other process can use an open SQLite store, so the claims of other processes are released at once.

    Raises `StoreInUse`, `StoreDamaged`, `StoreMisconfigured`, or `StoreUnavailable`: the database is unreachable, its
    folder is missing, its schema is of a newer version, or is of an older one and `migrate` is False.
    """
    async with (
        open_database(base, migrate=migrate) as writer,
        open_connections(base.readers()) as reader,
        open_connections(base.readers()) as api,
    ):
        await writer.run(refuse_unfinished_copy)
        if (problem := await writer.run(base.durability_problem)) is not None:
            log.warning("store_durability_reduced", reason=problem)
        key = await writer.run(_key)
        store = SqlStore(
            reader,
            writer.run,
            process,
            key,
            base.verify,
            shared=base.shared,
            crews=crews,
            api_reader=api,
            report=report,
            metrics=metrics,
        )
        if not base.shared:
            if (back := await writer.run(partial(follow_clock, now=now))) > 0:
                log.warning("clock_set_back", by_s=round(back))
            await store.cluster.expire_processes(now, -math.inf)  # no other process uses it
        await store.cluster.join(now)
        yield store
        await store.close()


async def migrate_store(url: str, *, pooler: bool = False) -> str:
    """Migrate the schema to the newest revision, and return it; raises as `open_store` does."""
    async with open_database(database(url, pooler=pooler), migrate=True):
        return REVISION


async def probe_store(url: str, *, pooler: bool = False) -> Health:
    """Return whether `open_store` would succeed with `migrate`; nothing is created or changed."""
    base = database(url, pooler=pooler)
    if (missing := base.health_if_missing()) is not None:
        return missing
    try:
        async with open_database(base, migrate=False, any_revision=True) as writer:
            return await writer.run(partial(_health, base))
    except StoreInUse:
        return Health(ok=True, detail="in use by a running bridge")
    except (StoreDamaged, StoreUnavailable) as error:
        return Health(ok=False, detail=str(error))


@asynccontextmanager
async def open_connections(connections: Connections) -> AsyncIterator[Connections]:
    """Close the connections at exit."""
    try:
        yield connections
    finally:
        await connections.close()


@asynccontextmanager
async def open_database(base: Database, *, migrate: bool, any_revision: bool = False) -> AsyncIterator[Connections]:
    """Lock and check a database and its schema, and yield its writer; raises as `open_store` does.

    `any_revision`: without `migrate`, accept an empty database and an older schema.
    """
    with base.locked():
        async with open_connections(base.writer()) as writer:
            await _prepare(base, writer, migrate=migrate, any_revision=any_revision)
            base.watch_files()
            yield writer


async def _prepare(base: Database, writer: Connections, *, migrate: bool, any_revision: bool) -> None:
    """Check the database, and migrate its schema or check that it is up to date."""

    def prepare(connection: Connection) -> None:
        base.check(connection)
        if (found := revision(connection)) == REVISION:
            return
        refuse_newer(found)
        from bridge.adapters.store import migration  # noqa: PLC0415 - Alembic takes long to import, and is rarely needed

        if migrate:
            migration.upgrade(connection)
        elif not any_revision:
            raise StoreUnavailable(_outdated(found))

    try:
        await writer.run(prepare)
    except DatabaseError as error:
        raise base.opening_error(error) from None


def _health(base: Database, connection: Connection) -> Health:
    found, needed = revision(connection), REVISION
    if found == needed:
        state = "sound and up to date"
    elif not base.may_create_tables(connection):
        return Health(ok=False, detail=f"{_outdated(found)}, with a role that may create tables")
    else:
        state = f"its schema is {found}; `run` migrates it to {needed}" if found else "empty; `run` creates its schema"
    return Health(ok=True, detail="; ".join(filter(None, [state, base.durability_problem(connection)])))


def _outdated(found: str | None) -> str:
    return f"the store's schema is {found or 'empty'}, {REVISION} is needed: run `migrate`"


def refuse_newer(found: str | None) -> None:
    """Raise `StoreUnavailable` if a schema is of a newer version of the bridge."""
    from bridge.adapters.store import migration  # noqa: PLC0415 - as above

    if found is not None and found not in migration.revisions():
        raise StoreUnavailable(
            f"the store was made by a newer version of the bridge (its schema is {found}, the newest known here is "
            f"{REVISION}): run that version, or restore a backup from before the upgrade"
        )


def revision(connection: Connection) -> str | None:
    """Return the revision of the schema, or None if there is none."""
    if not inspect(connection).has_table(_VERSION.name):
        return None
    return connection.execute(select(_VERSION.c.version_num)).scalar()


def refuse_unfinished_copy(connection: Connection) -> None:
    """Raise `StoreUnavailable` if the store is an unfinished copy."""
    if connection.execute(select(store_metadata.c.name).where(store_metadata.c.name == COPYING)).first():
        raise StoreUnavailable("the store is an unfinished copy: run `store copy` again")


def _key(connection: Connection) -> bytes:
    """Return the secret of the store, from which the tokens of webhook URLs derive; generate it if it has none."""
    connection.execute(
        dialect.insert_or_ignore(connection, store_metadata).values(name="amp", value=secrets.token_bytes(32))
    )
    found: bytes = connection.execute(select(store_metadata.c.value).where(store_metadata.c.name == "amp")).scalar_one()
    return found
