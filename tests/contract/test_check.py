"""`store check`: an intact store is reported as such while it is used, and each kind of damage is found."""

import asyncio
from pathlib import Path

import pytest

from bridge.adapters.store.check import check_store
from bridge.core.errors import StoreUnavailable
from tests.contract.conftest import Adapter, PostgresqlAdapter, SqliteAdapter
from tests.contract.run_states import accepted, end_of, fill_and_damage, in_doubt, refused, started
from tests.fakes import applied, run_id

CHECKS = ["schema", "references", "runs", "final events", "owners"]


async def filled(adapter: Adapter) -> None:
    """A run in each kind of state; two have ended."""
    async with adapter.open() as store:
        await accepted(store, 1, meta={"order": 42})
        await in_doubt(store, 2)
        await started(store, 3)
        await refused(store, 4)
        await applied(store, end_of(await started(store, 5)))


async def failed(adapter: Adapter) -> dict[str, str]:
    """The checks that fail, with their details."""
    found = await asyncio.to_thread(check_store, adapter.url)
    return {name: health.detail for name, health in found.items() if not health.ok}


async def test_a_store_in_use_is_intact(adapter: Adapter):
    await filled(adapter)
    async with adapter.open("next") as store:
        await store.claim_accepted("research", 1, 10, 2_000_000_000.0)
        found = await asyncio.to_thread(check_store, adapter.url)
        await accepted(store, 6)
    assert [name for name in found if name != "pages"] == CHECKS
    assert [name for name, health in found.items() if not health.ok] == []
    assert found["runs"].detail == "5 runs can be read"
    assert found["final events"].detail == "2 ended runs, each with one final event"


@pytest.mark.parametrize(
    ("damage", "check", "detail"),
    [
        (
            "DELETE FROM deliveries; DELETE FROM events WHERE type = 'run.failed'",
            "final events", f"the run {run_id(4)} is failed",
        ),
        ("UPDATE events SET type = 'run.succeeded'", "final events", f"the run {run_id(4)} is failed"),
        (
            f"UPDATE runs SET state = 'running', finished_at = NULL, kickoff_id = 'k' WHERE run_id = '{run_id(4)}'",
            "final events", f"the run {run_id(4)} is running",
        ),
        (f"UPDATE runs SET owner = 'gone' WHERE run_id = '{run_id(3)}'", "owners", "1 rows of runs"),
        ("UPDATE deliveries SET owner = 'gone'", "owners", "2 rows of deliveries"),
        (f"UPDATE runs SET tasks = meta WHERE run_id = '{run_id(1)}'", "runs", f"the run {run_id(1)} cannot"),
        ("DROP INDEX runs_idempotency_key", "schema", "the index runs_idempotency_key is missing"),
        ("ALTER TABLE receivers RENAME TO others", "schema", "the table receivers is missing"),
        ("ALTER TABLE receivers RENAME paused_at TO stopped_at", "schema", "the column receivers.paused_at is missing"),
    ],
)  # fmt: skip
async def test_damage_is_found(adapter: Adapter, damage: str, check: str, detail: str):
    await filled(adapter)
    for statement in damage.split(";"):
        adapter.execute(statement)
    found = await failed(adapter)
    assert list(found) == [check]
    assert detail in found[check]


async def test_a_reference_to_a_missing_row_is_found(adapter: Adapter):
    await filled(adapter)
    if isinstance(adapter, PostgresqlAdapter):  # which refuses to create one
        adapter.execute("ALTER TABLE run_meta DROP CONSTRAINT run_meta_run_id_fkey")
    adapter.execute("INSERT INTO run_meta (run_id, name, value) VALUES ('no such run', 'order', '42')")
    assert await failed(adapter) == {"references": "1 rows of run_meta refer to a row of runs that is missing"}


async def test_many_problems_are_counted_and_some_are_named(adapter: Adapter):
    async with adapter.open() as store:
        for number in range(1, 6):
            await refused(store, number)
    adapter.execute("DELETE FROM events")
    assert (await failed(adapter))["final events"].endswith(
        f"{run_id(3)} is failed, but its final events do not match that state; and 2 more"
    )


async def test_an_empty_store_is_not_one(adapter: Adapter):
    adapter.empty()
    if isinstance(adapter, SqliteAdapter):
        with pytest.raises(StoreUnavailable, match="does not exist"):
            check_store(adapter.url)
        adapter.path.touch()
    with pytest.raises(StoreUnavailable, match="the store is empty"):
        await asyncio.to_thread(check_store, adapter.url)


async def test_another_schema_is_named(adapter: Adapter):
    adapter.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreUnavailable, match="newer version"):
        await asyncio.to_thread(check_store, adapter.url)


async def test_an_unreachable_server_is_unavailable(postgresql: PostgresqlAdapter):
    async with postgresql.unavailable():
        with pytest.raises(StoreUnavailable, match="cannot be opened"):
            await asyncio.to_thread(check_store, postgresql.url)


async def test_damaged_pages_are_found_and_left_unchanged(sqlite: SqliteAdapter):
    content = await fill_and_damage(sqlite)
    assert list(await failed(sqlite)) == ["pages"]
    assert sqlite.path.read_bytes() == content
    sqlite.path.write_bytes(b"certainly no database" * 1000)
    assert await failed(sqlite) == {"pages": "the store is damaged: file is not a database"}


async def test_a_store_that_a_killed_bridge_left_is_read_without_changing_its_file(
    sqlite: SqliteAdapter, tmp_path: Path
):
    async with sqlite.open() as store:
        await accepted(store, 1)
        killed = sqlite.as_after_a_kill(tmp_path / "killed")
    before = killed.path.read_bytes(), killed.path.with_name("bridge.db-wal").read_bytes()
    found = check_store(killed.url)
    assert found["runs"].detail == "1 runs can be read"
    assert (killed.path.read_bytes(), killed.path.with_name("bridge.db-wal").read_bytes()) == before
