"""Copying a store: complete, resumable, verified, and refused while either store is in use."""

from pathlib import Path

import pytest

from bridge.adapters.store import copy, database, open_store
from bridge.adapters.store.copy import copy_store
from bridge.core.errors import StoreInUse, StoreUnavailable
from bridge.core.runs.model import State
from bridge.ports.queries import RunFilter
from tests.contract.conftest import PostgresqlAdapter, SqliteAdapter
from tests.contract.run_states import CALLBACK, accepted, ids, refused, started
from tests.fakes import NOW, run_id


def unseen(_table: str, _done: int, _total: int) -> None:
    """Ignore progress."""


async def filled(sqlite: SqliteAdapter) -> None:
    async with sqlite.open() as store:
        await started(store, 1, inputs={"größe": "🦉 \x00", "big": 2**70, "float": 0.1})
        await refused(store, 2, CALLBACK)
        for number in range(3, 30):
            await accepted(store, number, idempotency_key=f"k-{number}")


async def test_a_bridge_continues_from_the_copy(sqlite: SqliteAdapter, postgresql: PostgresqlAdapter):
    await filled(sqlite)
    counts = await copy_store(sqlite.url, postgresql.url, unseen)
    assert (counts["runs"], counts["deliveries"]) == (29, 2)
    async with sqlite.open() as old, postgresql.open("new") as new:
        for number in range(1, 30):
            assert await new.load(run_id(number)) == await old.load(run_id(number))
        assert await new.queries.deliveries_for_run(run_id(2)) == await old.queries.deliveries_for_run(run_id(2))
        assert (events := await new.queries.find_events(0.0, 999)) == await old.queries.find_events(0.0, 999)
        assert events
        assert new.key == old.key
        assert ids(await new.claim({State.RUNNING}, {"research"}, 9)) == [run_id(1)]


async def test_a_copy_can_be_copied_back(sqlite: SqliteAdapter, postgresql: PostgresqlAdapter, tmp_path: Path):
    await filled(sqlite)
    await copy_store(sqlite.url, postgresql.url, unseen)
    counts = await copy_store(postgresql.url, f"sqlite:///{tmp_path}/back.db", unseen)
    assert counts["runs"] == 29


async def test_an_interrupted_copy_is_resumed(
    sqlite: SqliteAdapter, postgresql: PostgresqlAdapter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(copy, "BATCH", 4)
    await filled(sqlite)
    seen: list[tuple[str, int]] = []

    def interrupt(table: str, done: int, _total: int) -> None:
        seen.append((table, done))
        if (table, done) == ("runs", 8):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await copy_store(sqlite.url, postgresql.url, interrupt)
    with pytest.raises(StoreUnavailable, match="unfinished copy"):
        async with postgresql.open():
            pass
    seen.clear()
    await copy_store(sqlite.url, postgresql.url, lambda table, done, _: seen.append((table, done)))
    assert ("runs", 12) in seen
    assert ("runs", 8) not in seen
    async with postgresql.open() as store:
        assert len((await store.queries.find_runs(RunFilter(limit=99))).items) == 29


async def test_a_target_with_other_content_is_refused(sqlite: SqliteAdapter, postgresql: PostgresqlAdapter):
    async with postgresql.open() as store:
        await accepted(store)
    with pytest.raises(StoreUnavailable, match="not empty"):
        await copy_store(sqlite.url, postgresql.url, unseen)


async def test_an_unfinished_copy_of_another_store_is_refused(
    sqlite: SqliteAdapter, postgresql: PostgresqlAdapter, tmp_path: Path
):
    await filled(sqlite)

    def interrupt(_table: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await copy_store(sqlite.url, postgresql.url, interrupt)
    other = f"sqlite:///{tmp_path}/other.db"
    async with open_store(database(other), "me", NOW):
        pass
    with pytest.raises(StoreUnavailable, match="another store"):
        await copy_store(other, postgresql.url, unseen)


async def test_a_store_in_use_is_not_copied(sqlite: SqliteAdapter, postgresql: PostgresqlAdapter):
    async with sqlite.open():
        with pytest.raises(StoreInUse):
            await copy_store(sqlite.url, postgresql.url, unseen)
    async with postgresql.open():
        with pytest.raises(StoreInUse):
            await copy_store(sqlite.url, postgresql.url, unseen)


async def test_a_copy_that_differs_is_reported(sqlite: SqliteAdapter, postgresql: PostgresqlAdapter):
    await filled(sqlite)

    def spoil(table: str, done: int, total: int) -> None:
        if table == "runs" and done == total:
            postgresql.execute("UPDATE runs SET polls = 99 WHERE run_id = %s", run_id(5))

    with pytest.raises(StoreUnavailable, match="runs differs"):
        await copy_store(sqlite.url, postgresql.url, spoil)


async def test_a_missing_source_is_not_created(postgresql: PostgresqlAdapter, tmp_path: Path):
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await copy_store(f"sqlite:///{tmp_path}/none.db", postgresql.url, unseen)
    assert not (tmp_path / "none.db").exists()
