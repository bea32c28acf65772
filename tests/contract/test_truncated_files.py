"""Files of a SQLite store that are truncated or overwritten in place while the bridge uses them."""

import asyncio
import os
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from bridge.adapters.kickoff_journal import open_journal
from bridge.adapters.store import SqlStore
from bridge.core.errors import StoreReplaced
from bridge.core.runs.model import Decision
from tests.contract.conftest import SqliteAdapter
from tests.contract.run_states import accepted, claimed
from tests.fakes import a_run


@pytest.fixture
async def store(sqlite: SqliteAdapter) -> AsyncIterator[SqlStore]:
    with suppress(StoreReplaced):
        async with sqlite.open() as store:
            yield store


def empty(path: Path) -> None:
    os.truncate(path, 0)


def cut(path: Path) -> None:
    os.truncate(path, 4096)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def lengthen(path: Path) -> None:
    """Empty the file, and restore its former size, as SQLite does when it writes beyond the end."""
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


def outside(path: Path, *statements: str) -> None:
    """Another program that uses the store, for example a backup tool."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("loss", [empty, cut, shorten, lengthen])
async def test_nothing_is_confirmed_after_the_file_or_its_log_was_truncated(
    sqlite: SqliteAdapter, store: SqlStore, loss: Callable[[Path], None], suffix: str
):
    """The bridge continued to answer 202 from its caches; the next start found a damaged or empty store."""
    run = await claimed(store)
    if not suffix:  # otherwise all of the log is needed
        outside(sqlite.path, "PRAGMA wal_checkpoint(TRUNCATE)")
        await accepted(store, 3)
    loss(sqlite.path.with_name(f"bridge.db{suffix}"))
    for attempt in (store.accept(a_run(2)), store.apply(Decision(run)), store.load(run.run_id)):
        with pytest.raises(StoreReplaced, match=rf"bridge\.db{suffix} was truncated or overwritten"):
            await attempt
    assert not (await store.health()).ok


async def test_another_program_that_shortens_the_files_is_not_an_error(sqlite: SqliteAdapter, store: SqlStore):
    """A checkpoint empties the log, and the first one after a VACUUM shortens the file."""
    outside(sqlite.path, "CREATE TABLE filler (content)", "INSERT INTO filler VALUES (zeroblob(9000000))")
    outside(sqlite.path, "PRAGMA wal_checkpoint(TRUNCATE)")
    await accepted(store, 1)
    large = sqlite.path.stat().st_size
    outside(sqlite.path, "DROP TABLE filler", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
    assert sqlite.path.stat().st_size < large
    assert sqlite.path.with_name("bridge.db-wal").stat().st_size == 0
    await accepted(store, 2)
    assert (await store.health()).ok


async def test_checkpoints_at_any_moment_are_not_an_error(sqlite: SqliteAdapter, store: SqlStore):
    """The compared state changes during the comparison."""
    over = False
    dice = random.Random(7)

    def verify() -> int:
        count = 0
        while not over:
            store.verify()
            count += 1
        return count

    def disturb() -> None:
        with closing(sqlite3.connect(sqlite.path, isolation_level=None, timeout=30)) as other:
            while not over:
                kind = dice.choice(["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
                other.execute(f"PRAGMA wal_checkpoint({kind})").fetchall()
                if dice.random() < 0.1:
                    other.execute("VACUUM")

    watching, disturbing = (
        asyncio.create_task(asyncio.to_thread(verify)),
        asyncio.create_task(asyncio.to_thread(disturb)),
    )
    try:
        for number in range(1, 60):
            await accepted(store, number)
    finally:
        over = True
        await disturbing
    assert await watching


@pytest.mark.parametrize("loss", [empty, cut])
async def test_a_truncated_journal_keeps_nothing_and_reports_it(sqlite: SqliteAdapter, loss: Callable[[Path], None]):
    async with open_journal(sqlite.url) as journal:
        await journal.append(a_run(1))
        journal.verify()
        loss(sqlite.path.with_name("bridge.db.kickoffs"))
        with pytest.raises(StoreReplaced, match="kickoffs was truncated"):
            journal.verify()
