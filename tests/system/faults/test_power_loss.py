"""The store after a power cut (M14): every prefix of the log that the disk may hold is opened.

With `synchronous=FULL` the log is synced at each commit, so a cut may lose what followed the last sync, in part or
completely: the file is copied, the log is cut off after each of its frames, and the store is opened. A confirmed commit
must be there from its last frame on, and no part of an unfinished one may be there.

With NORMAL the log is synced only at checkpoints: then any of these prefixes may be left after a commit was confirmed.
That is the negative control: it shows prefixes in which a run is `accepted` although its POST had been sent. The test
replays cuts at the frames of the log. It does not reorder writes within the disk, and trusts `fsync`.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from bridge.adapters.store import SqlStore, migrate_store, open_store
from bridge.adapters.store.database import database, open_connections
from bridge.core.crew.responses import Started
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import state_machine
from tests.fakes import NOW, a_run, applied

HEADER, FRAME = 32, 24 + 4096
RUNS = 12
RUNS_IN_FULL = 60  # with more of them, SQLite would restart the log


def frames(wal: Path) -> int:
    return (wal.stat().st_size - HEADER) // FRAME


def cut_off(store: Path, folder: Path, after: int) -> Path:
    """The store when the first frames of its log have reached the disk and no others."""
    copy = folder / "bridge.db"
    shutil.copy(store, copy)
    log = Path(f"{store}-wal").read_bytes()[: HEADER + after * FRAME]
    Path(f"{copy}-wal").write_bytes(log)
    Path(f"{copy}-shm").unlink(missing_ok=True)
    return copy


def states(store: Path) -> dict[str, str]:
    with closing(sqlite3.connect(store)) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return dict(reader.execute("SELECT run_id, state FROM runs").fetchall())


def synced_by(pragma: int) -> bool:
    """Whether SQLite syncs the log at each commit: FULL (2) and EXTRA (3) do, NORMAL (1) does not."""
    return pragma >= 2


class History:
    """A history of the store; records the length of the log at each POST."""

    def __init__(self, store: SqlStore, file: Path) -> None:
        self._store = store
        self._wal = Path(f"{file}-wal")
        self.accepted_at: dict[str, int] = {}
        self.posted_at: dict[str, int] = {}

    async def run(self, runs: int) -> None:
        for number in range(1, runs + 1):
            run = (await self._store.accept(a_run(number))).run
            self.accepted_at[run.run_id] = frames(self._wal)
            [starting] = await self._store.claim_accepted("research", 1, runs, NOW)
            self.posted_at[run.run_id] = frames(self._wal)
            await applied(self._store, state_machine.on_kickoff(starting, Started(f"k-{number}"), CrewPolicy(), NOW))

    def lost(self, after: int, left: dict[str, str]) -> list[str]:
        """Runs that had been acknowledged when the log had this many frames, and are missing."""
        return [run_id for run_id, at in self.accepted_at.items() if at <= after and run_id not in left]

    def forgotten_posts(self, posted_by: int, left: dict[str, str]) -> list[str]:
        """Runs whose POST had been sent by then, but that the store shows as not started: paid for twice."""
        return [run_id for run_id, at in self.posted_at.items() if at <= posted_by and left.get(run_id) == "accepted"]


@pytest.fixture
async def history(tmp_path: Path, full: bool) -> "History":
    file = tmp_path / "history" / "bridge.db"
    file.parent.mkdir()
    await migrate_store(f"sqlite:///{file}")
    return await record_history(file, RUNS_IN_FULL if full else RUNS)


async def record_history(file: Path, runs: int) -> History:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(database(f"sqlite:///{file}"), "me", NOW))
        writer = await stack.enter_async_context(open_connections(database(f"sqlite:///{file}").writer()))
        pragma = await writer.run(lambda connection: connection.exec_driver_sql("PRAGMA synchronous").scalar_one())
        assert synced_by(pragma), "the log must be on the disk when a commit returns"
        history = History(store, file)
        await history.run(runs)
        for suffix in ("", "-wal"):
            shutil.copy(f"{file}{suffix}", file.parent / f"left.db{suffix}")
    return history


def cuts(folder: Path) -> Iterator[tuple[int, dict[str, str]]]:
    left = folder / "left.db"
    there = folder / "cut"
    there.mkdir()
    for after in range(1, frames(Path(f"{left}-wal")) + 1):
        yield after, states(cut_off(left, there, after))


async def test_no_cut_loses_an_acknowledged_request_or_forgets_a_post(history: History, tmp_path: Path) -> None:
    seen = 0
    for after, left in cuts(tmp_path / "history"):
        assert history.lost(after, left) == []
        assert history.forgotten_posts(after, left) == []
        seen += 1

    assert seen > RUNS * 3


async def test_without_a_sync_at_each_commit_a_post_is_forgotten(history: History, tmp_path: Path) -> None:
    """The negative control: the log may then be shorter than reported, so any later POST is at risk."""
    end = max(history.posted_at.values())
    forgotten = [left for _, left in cuts(tmp_path / "history") if history.forgotten_posts(end, left)]

    assert len(forgotten) > RUNS, "the check cannot find what it is meant to find"
