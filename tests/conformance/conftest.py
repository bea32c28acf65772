"""Every adapter of `ports.Store`, opened for one test; another adapter is one more entry in `ADAPTERS`."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bridge.adapters.store import SqlStore, migrate_store, open_store
from tests.fakes import NOW


class SqliteAdapter:
    """Stores in one SQLite file of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bridge.db"
        self.url = f"sqlite:///{self.path}"

    def start_from(self, migrated: Path) -> None:
        """Spare the test a migration."""
        shutil.copy(migrated, self.path)

    def open(self, process: str = "me", now: float = NOW, **options: Any) -> AbstractAsyncContextManager[SqlStore]:
        return open_store(self.url, process, now, **options)

    async def migrate(self) -> str:
        return await migrate_store(self.url)

    async def twin(self, store: SqlStore, process: str, now: float = NOW) -> SqlStore:
        """A second process on the same database, as PostgreSQL permits; here it borrows the connections."""
        self.execute("INSERT INTO processes (name, beat_at) VALUES (?, ?)", process, now)
        return SqlStore(store._reader, store._batches._transaction, process, store.key)

    def as_after_a_kill(self, folder: Path) -> "SqliteAdapter":
        """What a power cut would leave: the files as they are at this moment, and no lock."""
        folder.mkdir()
        for file in self.path.parent.glob("bridge.db*"):
            if not file.name.endswith(".lock"):
                shutil.copy(file, folder)
        return SqliteAdapter(folder)

    def execute(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement past the store."""
        with sqlite3.connect(self.path, timeout=30) as connection:
            rows = connection.execute(statement, values).fetchall()
        connection.close()
        return rows


Adapter = SqliteAdapter
ADAPTERS: dict[str, Callable[[Path], Adapter]] = {"sqlite": SqliteAdapter}


@pytest.fixture(params=sorted(ADAPTERS))
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Adapter:
    return ADAPTERS[request.param](tmp_path)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, migrated once for all tests."""
    path = tmp_path_factory.mktemp("migrated") / "bridge.db"
    asyncio.run(migrate_store(f"sqlite:///{path}"))
    return path


@pytest.fixture
async def store(adapter: Adapter, migrated: Path) -> AsyncIterator[SqlStore]:
    adapter.start_from(migrated)
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(adapter.open())
