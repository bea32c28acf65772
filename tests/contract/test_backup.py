"""Backups of a SQLite store: consistent while a bridge writes, private, durable, complete, and marked."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.adapters.store import backup
from bridge.adapters.store.backup import back_up
from bridge.adapters.store.check import check_store
from bridge.core.errors import StoreDamaged, StoreUnavailable
from bridge.ports.queries import RunFilter
from tests.contract.conftest import SqliteAdapter
from tests.contract.run_states import accepted, fill_and_damage, refused, started
from tests.fakes import NOW, run_id


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "backups").mkdir()
    return tmp_path / "backups" / "backup.db"


@pytest.fixture
def open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def unseen(_done: int, _total: int) -> None:
    """Ignore progress."""


async def test_a_backup_is_the_store_at_one_moment_and_the_bridge_writes_meanwhile(
    sqlite: SqliteAdapter, file: Path, monkeypatch: pytest.MonkeyPatch
):
    """The other writer does not wait at all for a lock, and what it writes does not make the copy begin again."""
    monkeypatch.setattr(backup, "PAGES", 8)
    written = list[int]()

    async with sqlite.open() as store:
        for number in range(1, 40):
            await accepted(store, number, inputs={"text": "x" * 2000})
        with closing(sqlite3.connect(sqlite.path, timeout=0, isolation_level=None)) as bridge:

            def on_pages(done: int, _total: int) -> None:
                written.append(done)
                bridge.execute("UPDATE runs SET priority = ? WHERE run_id = ?", (len(written), run_id(1)))
                bridge.execute("DELETE FROM runs WHERE run_id = ?", (run_id(10 + len(written)),))

            back_up(sqlite.url, file, NOW, on_pages)
    assert len(written) > 2
    assert written == sorted(set(written))
    with closing(sqlite3.connect(file)) as copy:
        assert copy.execute("SELECT count(*), max(priority) FROM runs").fetchone() == (39, 0)


@pytest.mark.usefixtures("open_to_all")
async def test_a_backup_is_one_private_file_that_the_next_bridge_can_use(sqlite: SqliteAdapter, file: Path):
    async with sqlite.open() as store:
        await started(store, 1)
        await refused(store, 2)
        back_up(sqlite.url, file, NOW, unseen)
        copied = SqliteAdapter(file.parent)
        copied.url = f"sqlite:///{file}"
        key, runs = store.key, (await store.queries.find_runs(RunFilter())).items
    assert [(path.name, oct(path.stat().st_mode)[-3:]) for path in file.parent.iterdir()] == [("backup.db", "600")]
    found = check_store(copied.url)
    assert [name for name, health in found.items() if not health.ok] == []
    assert found["backup"].detail.startswith("made at 2027-01-15T08:00:00+00:00")
    async with copied.open("next") as restored:
        assert restored.key == key
        assert [run.run_id for run in (await restored.queries.find_runs(RunFilter())).items] == [
            run.run_id for run in runs
        ]


async def test_what_a_killed_bridge_left_in_the_log_is_part_of_a_backup(
    sqlite: SqliteAdapter, file: Path, tmp_path: Path
):
    async with sqlite.open() as store:
        await accepted(store, 1)
        killed = sqlite.as_after_a_kill(tmp_path / "killed")
    assert killed.path.with_name("bridge.db-wal").stat().st_size > 0
    back_up(killed.url, file, NOW, unseen)
    with closing(sqlite3.connect(file)) as copy:
        assert copy.execute("SELECT run_id FROM runs").fetchall() == [(run_id(1),)]


async def test_a_bridge_on_a_backup_holds_what_is_accepted_once(sqlite: SqliteAdapter, file: Path):
    """The lost store may have started these runs since."""
    async with sqlite.open() as store:
        await accepted(store, 1)
        assert await store.queries.hold_accepted(NOW, always=False) is None
        back_up(sqlite.url, file, NOW, unseen)
    restored = SqliteAdapter(file.parent)
    restored.url = f"sqlite:///{file}"
    async with restored.open() as store:
        assert await store.queries.hold_accepted(NOW, always=False) == 1
        assert await store.queries.release(None, None, "client/ops", NOW) == 1
        assert await store.queries.hold_accepted(NOW, always=False) is None
    assert "backup" not in check_store(restored.url)


def test_an_existing_file_is_not_replaced(sqlite: SqliteAdapter, file: Path):
    file.symlink_to("nothing")
    with pytest.raises(FileExistsError) as refused:
        back_up(sqlite.url, file, NOW, unseen)
    assert refused.value.filename == str(file)
    file.unlink()
    partial = file.with_name("backup.db.partial")
    partial.write_text("of another backup")
    with pytest.raises(FileExistsError):
        back_up(sqlite.url, file, NOW, unseen)
    assert partial.read_text() == "of another backup"


async def test_an_interrupted_backup_leaves_nothing(sqlite: SqliteAdapter, file: Path):
    def interrupt(_done: int, _total: int) -> None:
        assert [path.name for path in file.parent.glob("*.partial")] == ["backup.db.partial"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(sqlite.url, file, NOW, interrupt)
    assert list(file.parent.iterdir()) == []


async def test_a_damaged_store_yields_no_backup(sqlite: SqliteAdapter, file: Path):
    await fill_and_damage(sqlite)
    with pytest.raises(StoreDamaged, match="no backup was made"):
        back_up(sqlite.url, file, NOW, unseen)
    sqlite.path.write_bytes(b"certainly no database" * 1000)
    with pytest.raises(StoreDamaged, match="no backup was made"):
        back_up(sqlite.url, file, NOW, unseen)
    assert list(file.parent.iterdir()) == []


async def test_a_store_that_does_not_exist_or_is_empty_yields_no_backup(sqlite: SqliteAdapter, file: Path):
    sqlite.path.unlink()
    with pytest.raises(StoreUnavailable, match="does not exist"):
        back_up(sqlite.url, file, NOW, unseen)
    sqlite.path.touch()
    with pytest.raises(StoreUnavailable, match="is empty"):
        back_up(sqlite.url, file, NOW, unseen)
    assert list(file.parent.iterdir()) == []


async def test_a_backup_is_on_the_disk_before_it_has_its_name(
    sqlite: SqliteAdapter, file: Path, monkeypatch: pytest.MonkeyPatch
):
    done, fsync = list[tuple[str, bool]](), os.fsync

    def watched(descriptor: int) -> None:
        done.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, file.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    back_up(sqlite.url, file, NOW, unseen)
    assert done == [("backup.db.partial", False), ("backups", True)]
