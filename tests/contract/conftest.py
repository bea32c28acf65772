"""Fixtures that open every adapter of the store; a new adapter is one more entry in `ADAPTERS`."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing, suppress
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from bridge.adapters.store import SqlStore, migrate_store, open_store
from bridge.adapters.store.connections import Connections, Work
from bridge.adapters.store.database import database, open_connections, open_database
from bridge.adapters.store.schema import metadata
from tests.fakes import NOW
from tests.postgres import PostgresServer

CREWS = ("research",)
"""The crews of a process, unless the test sets others."""
_numbers = count(1)
SCHEMA = """
    SELECT count(*), max(xmin::text::bigint), (SELECT version_num FROM alembic_version)
    FROM (SELECT xmin FROM pg_class UNION ALL SELECT xmin FROM pg_attribute) AS written
"""
"""What every change of a table or an index changes: the number of rows about them, or their last transaction."""
EMPTY = "; ".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables))


class Adapter(Protocol):
    """One kind of database, empty and migrated when the test begins."""

    url: str

    def open(self, process: str = "me", now: float = NOW, **options: Any) -> AbstractAsyncContextManager[SqlStore]: ...

    async def twin(self, store: SqlStore, process: str, now: float = NOW, crews: Collection[str] = CREWS) -> SqlStore:
        """A second process on the same database."""

    def execute(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement outside the store, with `%s` for values."""

    def plan(self, statement: str, parameters: Any) -> list[str]:
        """The steps of the plan of a statement on a large store."""

    def unavailable(self) -> AbstractAsyncContextManager[None]:
        """Make the database unavailable."""

    def empty(self) -> None:
        """Remove the schema."""


def readers(adapter: Adapter, **options: Any) -> AbstractAsyncContextManager[Connections]:
    """Connections like those with which a store reads."""
    return open_connections(database(adapter.url, **options).readers())


def silence(adapter: Adapter, process: str, seconds: float) -> None:
    """The process has sent no heartbeat for this long."""
    adapter.execute("UPDATE processes SET heartbeat_at = heartbeat_at - %s WHERE name = %s", seconds, process)


class SqliteAdapter:
    """Stores in a SQLite file of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bridge.db"
        self.url = f"sqlite:///{self.path}"
        self._twins = AsyncExitStack()

    def open(self, process: str = "me", now: float = NOW, **options: Any) -> AbstractAsyncContextManager[SqlStore]:
        return open_store(database(self.url), process, now, **{"crews": CREWS, **options})

    async def twin(self, store: SqlStore, process: str, now: float = NOW, crews: Collection[str] = CREWS) -> SqlStore:
        """A second store on one file: PostgreSQL permits it; here it bypasses the lock."""
        base = database(self.url)
        writer = await self._twins.enter_async_context(open_connections(base.writer()))
        reader = await self._twins.enter_async_context(open_connections(base.readers()))
        twin = SqlStore(reader, writer.run, process, store.key, shared=False, crews=crews)
        await twin.cluster.join(now)
        return twin

    def as_after_a_kill(self, folder: Path) -> "SqliteAdapter":
        """The state after a power cut: the files as they are now, and no lock."""
        folder.mkdir()
        for file in self.path.parent.glob("bridge.db*"):
            if not file.name.endswith(".lock"):
                shutil.copy(file, folder)
        return SqliteAdapter(folder)

    def execute(self, statement: str, *values: Any) -> list[Any]:
        with sqlite3.connect(self.path, timeout=30) as connection:
            rows = connection.execute(statement.replace("%s", "?"), values).fetchall()
        connection.close()
        return rows

    def plan(self, statement: str, parameters: Any) -> list[str]:
        with closing(sqlite3.connect(self.path)) as connection:
            return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]

    @asynccontextmanager
    async def unavailable(self) -> AsyncIterator[None]:
        await asyncio.to_thread(self.execute, "ALTER TABLE runs RENAME TO gone")
        try:
            yield
        finally:  # in a thread: the store may hold the write lock, and must be able to release it
            await asyncio.to_thread(self.execute, "ALTER TABLE gone RENAME TO runs")

    def empty(self) -> None:
        self.path.unlink()

    async def close(self) -> None:
        await self._twins.aclose()


class PostgresqlAdapter:
    """Stores in a database of the test's own."""

    def __init__(self, server: PostgresServer, database: str) -> None:
        self.server = server
        self.database = database
        self.url = server.url(database)
        self._twins = AsyncExitStack()

    def open(self, process: str = "me", now: float = NOW, **options: Any) -> AbstractAsyncContextManager[SqlStore]:
        return open_store(database(self.url), process, now, **{"crews": CREWS, **options})

    async def twin(self, _store: SqlStore, process: str, now: float = NOW, crews: Collection[str] = CREWS) -> SqlStore:
        return await self._twins.enter_async_context(self.open(process, now, crews=crews))

    def execute(self, statement: str, *values: Any) -> list[Any]:
        return self.server.execute(statement, *values, database=self.database)

    def plan(self, statement: str, parameters: Any) -> list[str]:
        """Without sequential scans where possible: on a few rows, a sequential scan is the best plan."""
        with psycopg.connect(self.server.url(self.database), autocommit=True) as connection:
            connection.execute("SET enable_seqscan = off")
            explained = connection.execute(f"EXPLAIN (FORMAT JSON) {statement}".encode(), parameters).fetchone()
        assert explained is not None
        return list(_steps(explained[0][0]["Plan"]))

    @asynccontextmanager
    async def unavailable(self) -> AsyncIterator[None]:
        self.server.execute(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS false")
        self.server.end_connections(self.database)
        try:
            yield
        finally:
            self.server.execute(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS true")

    def empty(self) -> None:
        self.execute("DROP SCHEMA public CASCADE")
        self.execute("CREATE SCHEMA public")

    async def close(self) -> None:
        await self._twins.aclose()


class Databases:
    """Migrated, empty databases of a server, each for one test at a time: a new one costs more than most tests."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._free: list[str] = []
        self._schema = server.execute(SCHEMA, database="migrated")

    def take(self) -> str:
        return self._free.pop() if self._free else self.new()

    def new(self) -> str:
        name = f"test_{next(_numbers)}"
        self._server.execute(f"CREATE DATABASE {name} TEMPLATE migrated")
        return name

    def put_back(self, name: str) -> None:
        """Empty it for another test, or drop it if this one has changed the schema."""
        with suppress(psycopg.Error):
            impatient = f"{name}?options=-c%20lock_timeout%3D5s"
            if self._server.execute(f"{SCHEMA}; {EMPTY}", database=impatient) == self._schema:
                self._free.append(name)
                return
        self.drop(name)

    def drop(self, name: str) -> None:
        self._server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _steps(node: dict[str, Any]) -> Iterator[str]:
    """The steps of a plan of PostgreSQL, in the terms of SQLite."""
    kind, table, index = (node.get(name, "") for name in ("Node Type", "Relation Name", "Index Name"))
    if "Index Cond" in node or "Recheck Cond" in node:
        yield f"SEARCH {table} USING INDEX {index}"
    elif kind == "Seq Scan":
        yield f"SCAN {table}"
    elif index:
        yield f"SCAN {table} USING {'COVERING ' if kind == 'Index Only Scan' else ''}INDEX {index}"
    for child in node.get("Plans", ()):
        yield from _steps(child)


@pytest.fixture(scope="session")
def postgres(shared_postgres: PostgresServer) -> PostgresServer:
    """The server, with an empty, migrated database that serves as a template."""
    shared_postgres.execute("CREATE DATABASE migrated")
    asyncio.run(migrate_store(shared_postgres.url("migrated")))
    return shared_postgres


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, migrated once for all tests."""
    path = tmp_path_factory.mktemp("migrated") / "bridge.db"
    asyncio.run(migrate_store(f"sqlite:///{path}"))
    return path


@pytest.fixture
async def sqlite(tmp_path: Path, migrated: Path) -> AsyncIterator[SqliteAdapter]:
    adapter = SqliteAdapter(tmp_path)
    shutil.copy(migrated, adapter.path)
    yield adapter
    await adapter.close()


@pytest.fixture(scope="session")
def databases(postgres: PostgresServer) -> Databases:
    return Databases(postgres)


@pytest.fixture
async def postgresql(postgres: PostgresServer, databases: Databases) -> AsyncIterator[PostgresqlAdapter]:
    """With a new database, which the test may change in any way."""
    adapter = PostgresqlAdapter(postgres, await asyncio.to_thread(databases.new))
    yield adapter
    await adapter.close()
    await asyncio.to_thread(databases.drop, adapter.database)


@pytest.fixture
async def emptied_postgresql(postgres: PostgresServer, databases: Databases) -> AsyncIterator[PostgresqlAdapter]:
    """With a database that other tests may have used."""
    adapter = PostgresqlAdapter(postgres, await asyncio.to_thread(databases.take))
    yield adapter
    await adapter.close()
    await asyncio.to_thread(databases.put_back, adapter.database)


ADAPTERS = {"sqlite": "sqlite", "postgresql": "emptied_postgresql"}
"""The fixtures of the adapters."""


@pytest.fixture(params=sorted(ADAPTERS))
def adapter(request: pytest.FixtureRequest) -> Adapter:
    made: Adapter = request.getfixturevalue(ADAPTERS[request.param])
    return made


@pytest.fixture
async def store(adapter: Adapter) -> AsyncIterator[SqlStore]:
    async with adapter.open() as store:
        yield store


class LossyConnection:
    """A connection to the database that can lose a transaction or its confirmation."""

    def __init__(self, writer: Connections) -> None:
        self._writer = writer
        self._until_lost = 0
        self._written = True
        self.commits = 0

    def lose(self, which: int = 1, *, written: bool = True) -> None:
        """Report the failure of the next transaction, or of a later one: committed if `written`, else rolled back."""
        self._until_lost, self._written = which, written

    async def run(self, work: Work[Any]) -> Any:
        self._until_lost -= 1
        self.commits += 1
        if self._until_lost != 0:
            return await self._writer.run(work)
        lost = OperationalError("COMMIT", None, OSError("the connection was cut"))

        def rolled_back(connection: Connection) -> None:
            work(connection)
            raise lost

        await self._writer.run(work if self._written else rolled_back)
        raise lost


@pytest.fixture
async def connection(adapter: Adapter) -> AsyncIterator[LossyConnection]:
    async with open_database(database(adapter.url), migrate=False) as writer:
        yield LossyConnection(writer)


@pytest.fixture
async def lossy(adapter: Adapter, connection: LossyConnection) -> AsyncIterator[SqlStore]:
    """A store that writes through the connection."""
    async with readers(adapter) as reader:
        shared = database(adapter.url).shared
        store = SqlStore(reader, connection.run, "me", b"k" * 32, shared=shared)
        await store.cluster.join(NOW)
        yield store
        await store.close()
