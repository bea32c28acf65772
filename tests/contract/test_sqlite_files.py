"""The files of a SQLite store: private, not opened through planted links, one lock per store, and never replaced."""

import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from bridge.adapters.kickoff_journal import open_journal
from bridge.adapters.store import SqlStore, database, open_store, probe_store
from bridge.core.errors import StoreInUse, StoreMisconfigured, StoreReplaced, StoreUnavailable
from bridge.core.runs.model import Decision
from tests.contract.conftest import SqliteAdapter
from tests.contract.run_states import accepted, claimed
from tests.fakes import NOW, a_run, run_id

BESIDE = ["-wal", "-shm", ".lock"]


@pytest.fixture
async def store(sqlite: SqliteAdapter) -> AsyncIterator[SqlStore]:
    with suppress(StoreReplaced):
        async with sqlite.open() as store:
            yield store


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """Put a copy in place of the file, as an editor or a restored backup does."""
    shutil.copy(path, f"{path}.new")
    Path(f"{path}.new").replace(path)


def move_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))


@pytest.mark.parametrize("loss", [remove, replace, move_folder])
async def test_nothing_is_confirmed_after_the_file_was_removed_or_replaced(
    sqlite: SqliteAdapter, store: SqlStore, loss: Callable[[Path], None]
):
    """The bridge continued to answer 202; after a restart everything was lost, and the same keys were posted again."""
    run = await claimed(store)
    loss(sqlite.path)
    for attempt in (store.accept(a_run(2)), store.apply(Decision(run)), store.load(run_id(1))):
        with pytest.raises(StoreReplaced, match=r"bridge\.db was removed or replaced"):
            await attempt
    assert not (await store.health()).ok


@pytest.mark.parametrize("suffix", BESIDE)
@pytest.mark.parametrize("loss", [remove, replace])
async def test_nothing_is_confirmed_after_a_related_file_was_removed_or_replaced(
    sqlite: SqliteAdapter, store: SqlStore, loss: Callable[[Path], None], suffix: str
):
    """Without its log the file lacks confirmed writes; without the lock file another process may open it."""
    await accepted(store)
    loss(sqlite.path.with_name(f"bridge.db{suffix}"))
    with pytest.raises(StoreReplaced, match="was removed or replaced"):
        await store.accept(a_run(2))


async def test_a_store_has_one_lock_for_all_its_paths(sqlite: SqliteAdapter, store: SqlStore):
    await accepted(store)
    link = sqlite.path.with_name("link.db")
    link.symlink_to(sqlite.path)
    folder = sqlite.path.parent / "folder"
    folder.symlink_to(sqlite.path.parent)
    for path in (link, folder / "bridge.db", sqlite.path.parent / "x" / ".." / "bridge.db"):
        with pytest.raises(StoreInUse):
            async with open_store(database(f"sqlite:///{path}"), "second", NOW):
                pass


async def test_the_journal_is_next_to_the_real_file(sqlite: SqliteAdapter):
    """Through a link it was another file, and the entries of the first one were not applied."""
    folder = sqlite.path.parent / "elsewhere"
    folder.mkdir()
    (folder / "link.db").symlink_to(sqlite.path)
    async with open_journal(f"sqlite:///{folder}/link.db") as journal:
        await journal.append(a_run())
    async with open_journal(sqlite.url) as journal:
        assert len(journal.entries()) == 1


@pytest.mark.parametrize("loss", [remove, replace])
async def test_a_removed_or_replaced_journal_keeps_nothing_and_reports_it(
    sqlite: SqliteAdapter, loss: Callable[[Path], None]
):
    async with open_journal(sqlite.url) as journal:
        await journal.append(a_run(1))
        loss(sqlite.path.with_name("bridge.db.kickoffs"))
        with pytest.raises(StoreReplaced, match="kickoffs was removed or replaced"):
            journal.verify()


async def test_a_file_with_a_second_hard_link_is_refused(sqlite: SqliteAdapter):
    """SQLite has another log per name, and neither lock keeps the other process out."""
    other = sqlite.path.with_name("other.db")
    other.hardlink_to(sqlite.path)
    with pytest.raises(StoreMisconfigured, match="hard link"):
        async with sqlite.open():
            pass
    other.unlink()
    async with sqlite.open() as store:
        await accepted(store)


async def test_all_files_are_private(tmp_path: Path):
    path = tmp_path / "new" / "bridge.db"
    path.parent.mkdir()
    before = os.umask(0)
    try:
        async with open_store(database(f"sqlite:///{path}"), "me", NOW) as store, open_journal(f"sqlite:///{path}"):
            await accepted(store)
            found = {file.name: oct(mode_of(file)) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert found == dict.fromkeys(
        [f"bridge.db{suffix}" for suffix in ["", "-shm", "-wal", ".kickoffs", ".lock"]], "0o600"
    )


async def test_files_that_others_may_read_are_made_private(sqlite: SqliteAdapter):
    beside = [sqlite.path.with_name(f"bridge.db{suffix}") for suffix in (".lock", ".kickoffs")]
    for file in beside:
        file.touch()
    for file in (sqlite.path, *beside):
        file.chmod(0o664)
    async with sqlite.open() as store, open_journal(sqlite.url):
        await accepted(store)
        files = (sqlite.path, *beside, sqlite.path.with_name("bridge.db-wal"))
        assert {mode_of(file) for file in files} == {0o600}


@pytest.mark.parametrize("suffix", BESIDE)
async def test_files_are_not_created_through_a_link(sqlite: SqliteAdapter, suffix: str):
    """The file that a planted `.lock` linked to was emptied."""
    victim = sqlite.path.with_name("victim")
    victim.write_text("precious")
    sqlite.path.with_name(f"bridge.db{suffix}").symlink_to(victim)
    with pytest.raises(StoreMisconfigured, match="symbolic link"):
        async with sqlite.open():
            pass
    assert victim.read_text() == "precious"


async def test_the_journal_is_not_created_through_a_link(sqlite: SqliteAdapter):
    victim = sqlite.path.with_name("victim")
    sqlite.path.with_name("bridge.db.kickoffs").symlink_to(victim)
    with pytest.raises(StoreMisconfigured, match="symbolic link"):
        async with open_journal(sqlite.url):
            pass
    assert not victim.exists()


async def test_a_store_is_not_created_through_a_link(sqlite: SqliteAdapter):
    victim = sqlite.path.with_name("victim.db")
    link = sqlite.path.with_name("link.db")
    link.symlink_to(victim)
    with pytest.raises(StoreUnavailable, match="symbolic link"):
        async with open_store(database(f"sqlite:///{link}"), "me", NOW):
            pass
    assert not (await probe_store(f"sqlite:///{link}")).ok
    assert not victim.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_link_of_another_user_is_not_followed(sqlite: SqliteAdapter):
    link = sqlite.path.with_name("link.db")
    link.symlink_to(sqlite.path)
    os.lchown(link, 12345, 12345)
    with pytest.raises(StoreMisconfigured, match="another user"):
        async with open_store(database(f"sqlite:///{link}"), "me", NOW):
            pass
