"""SQLite only: one process at a time, kills, power cuts, damage, and durability."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from bridge.adapters.store import SqlStore, database, migrate_store, open_store, probe_store
from bridge.adapters.store import sqlite as sqlite_module
from bridge.adapters.store.connections import Connections
from bridge.adapters.store.database import open_connections
from bridge.adapters.store.sqlite import Sqlite
from bridge.core.errors import StoreDamaged, StoreInUse, StoreMisconfigured, StoreUnavailable
from bridge.core.runs.model import State
from bridge.ports.lifecycle import Health
from bridge.ports.queries import RunFilter
from tests.contract.conftest import SqliteAdapter
from tests.contract.run_states import accepted, claimed, ids, started
from tests.fakes import NOW, a_run, run_id


@pytest.fixture
async def store(sqlite: SqliteAdapter) -> AsyncIterator[SqlStore]:
    async with sqlite.open() as store:
        yield store


@pytest.mark.parametrize("seconds", [60.0, 0.0, -60.0])
async def test_confirmed_writes_survive_a_kill_and_are_free_at_once(
    sqlite: SqliteAdapter, store: SqlStore, tmp_path: Path, seconds: float
):
    """Also if the clock was set back meanwhile: a SQLite store has one owner, so dead rows are free."""
    run = await started(store, 1)
    await accepted(store, 2)
    await claimed(store, 3, priority=1)
    async with sqlite.as_after_a_kill(tmp_path / "copy").open("next", NOW + seconds) as after:
        assert ids(await after.claim({State.RUNNING}, {"research"}, 9)) == [run.run_id]
        assert ids(await after.claim({State.STARTING}, {"research"}, 9)) == [run_id(3)]
        assert ids(await after.claim_accepted("research", 9, 9, NOW)) == [run_id(2)]


async def test_a_process_may_return_under_its_former_name_after_a_kill(
    sqlite: SqliteAdapter, store: SqlStore, tmp_path: Path
):
    """In a container the host name and the process id are often the same again."""
    run = await started(store)
    async with sqlite.as_after_a_kill(tmp_path / "copy").open("me", NOW + 60) as after:
        assert ids(await after.claim({State.RUNNING}, {"research"}, 9)) == [run.run_id]


async def test_a_kill_at_any_moment_keeps_all_confirmed_writes(sqlite: SqliteAdapter, store: SqlStore, tmp_path: Path):
    rng, confirmed = random.Random(7), set[int]()

    async def accept(number: int) -> None:
        await accepted(store, number)
        confirmed.add(number)

    tasks = [asyncio.create_task(accept(number)) for number in range(1, 61)]
    for copy in range(3):
        for _ in range(rng.randrange(2, 12)):
            await asyncio.wait(tasks, timeout=0.0005, return_when=asyncio.FIRST_COMPLETED)
        known = set(confirmed)
        async with sqlite.as_after_a_kill(tmp_path / f"copy-{copy}").open("next", NOW + 1) as after:
            found = {run.run_id for run in (await after.queries.find_runs(RunFilter(limit=99))).items}
        assert {run_id(number) for number in known} <= found
    await asyncio.gather(*tasks)


async def test_a_second_process_is_refused(sqlite: SqliteAdapter, store: SqlStore):
    with pytest.raises(StoreInUse):
        async with sqlite.open("second"):
            pass
    with pytest.raises(StoreInUse):
        await migrate_store(sqlite.url)
    assert await store.load(run_id(1)) is None


async def test_a_file_that_is_not_a_database_is_damaged(sqlite: SqliteAdapter):
    sqlite.path.write_bytes(b"certainly no database" * 1000)
    with pytest.raises(StoreDamaged):
        async with sqlite.open():
            pass


async def test_a_database_in_another_encoding_is_refused(sqlite: SqliteAdapter):
    sqlite.path.unlink()
    other = sqlite3.connect(sqlite.path)
    other.executescript("PRAGMA encoding = 'UTF-16'; CREATE TABLE t (x);")
    other.close()
    with pytest.raises(StoreMisconfigured, match="UTF-8 is needed"):
        async with sqlite.open():
            pass
    assert "UTF-8 is needed" in (await probe_store(sqlite.url)).detail


async def test_a_database_with_holes_is_damaged(sqlite: SqliteAdapter):
    async with sqlite.open() as store:
        await asyncio.gather(*(accepted(store, number, inputs={"x": "y" * 3000}) for number in range(1, 40)))
    content = bytearray(sqlite.path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    sqlite.path.write_bytes(content)
    with pytest.raises(StoreDamaged):
        async with sqlite.open("next"):
            pass


async def test_a_missing_folder_is_not_created(sqlite: SqliteAdapter):
    sqlite.url = f"sqlite:///{sqlite.path.parent}/missing/bridge.db"
    with pytest.raises(StoreUnavailable):
        async with sqlite.open():
            pass


@pytest.mark.parametrize(("connections", "number"), [(Sqlite.readers, 4), (Sqlite.writer, 1)])
async def test_every_connection_of_the_pool_is_durable(
    sqlite: SqliteAdapter, connections: Callable[[Sqlite], Connections], number: int
):
    async with open_connections(connections(Sqlite(sqlite.url))) as pool:
        with ExitStack() as stack:
            for _ in range(number):
                connection = stack.enter_context(pool.engine.connect())
                found = [
                    connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
                    for pragma in ("synchronous", "journal_mode", "foreign_keys")
                ]
                assert found == [2, "wal", 1]


async def test_an_exception_while_the_store_is_open_does_not_leave_it_locked(sqlite: SqliteAdapter):
    async def go_wrong() -> None:
        async with sqlite.open("one") as store:
            await started(store)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await go_wrong()
    async with sqlite.open("two", NOW + 1) as store:
        assert len(await store.claim({State.RUNNING}, {"research"}, 9)) == 1


async def test_an_unwritable_store_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request was answered with 503 while `/readyz`, which only read, reported that the store works."""
    monkeypatch.setattr(sqlite_module, "BUSY_TIMEOUT_MS", 50)
    path = tmp_path / "bridge.db"
    async with open_store(database(f"sqlite:///{path}"), "me", NOW) as store:
        assert (await store.health()).ok
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable):
                await store.accept(a_run(1))
            assert await store.health() == Health(ok=False, detail="cannot be written")
            assert not (await store.queries.usage({}, {}, NOW)).writable
        await store.cluster.heartbeat(NOW)
        assert (await store.health()).ok
