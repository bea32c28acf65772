"""Appends kickoff ids that the store could not take to a file beside it, because no restart could recover them.

The room is taken in advance, so that a full disk does not stand in the way; every line is on the disk when `append`
returns. Each entry has a slot, which is free again when the store has the id, so that the room is for outstanding
entries. A line that a crash cut off is skipped and keeps its slot until the journal is cleared.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from bridge.adapters.store.files import WatchedFiles, open_private
from bridge.core.errors import StoreReplaced, StoreUnavailable
from bridge.core.runs.model import Run
from bridge.ports.journal import JournalEntry

ROOM = 1024 * 1024  # bytes; two thousand ids. Further ones are kept while the disk has room
ENTRY_SIZE = 512  # bytes; twice the longest line

log = structlog.get_logger()


class KickoffJournal:
    """`ports.Journal` in an open file."""

    def __init__(self, file: int, path: Path) -> None:
        self._file = file
        self._watched = WatchedFiles()
        self._watched.add(path)
        self._path = path
        self._slots: dict[tuple[str, int], int] = {}
        self._find_free_slots()
        self._turn = asyncio.Lock()

    def verify(self) -> None:
        """Raise `StoreReplaced` if the file was removed, replaced, or truncated: no restart would find its entries."""
        self._watched.verify()
        if os.fstat(self._file).st_size < ROOM:
            raise StoreReplaced(
                f"the kickoff journal {self._path} was truncated while the bridge used it; kickoff ids that it held "
                "are in the log (kickoff_id_journaled)"
            )

    async def append(self, run: Run) -> None:
        """Append the kickoff id of this run's present attempt."""
        log.error("kickoff_id_journaled", run_id=run.run_id, crew=run.crew, kickoff_id=run.kickoff_id)
        line = json.dumps({"run_id": run.run_id, "attempt": run.attempt, "kickoff_id": run.kickoff_id})
        async with self._turn:
            slot = self._slots[run.run_id, run.attempt] = self._take_slot()
            # begun with a line break, too: a line that a crash cut off may stand before it
            await asyncio.to_thread(self._write, slot, b"\n" + line.encode() + b"\n")

    async def drop(self, run: Run) -> None:
        """Free the slot of an entry; need not be durable, because an entry found again does no harm."""
        async with self._turn:
            slot = self._slots.pop((run.run_id, run.attempt), None)
            if slot is not None:
                await asyncio.to_thread(os.pwrite, self._file, bytes(ENTRY_SIZE), slot * ENTRY_SIZE)
                self._free.append(slot)

    def entries(self) -> list[JournalEntry]:
        """Return every entry appended since the last `clear` and not dropped."""
        lines = self._content().split(b"\n")
        return [entry for line in lines if (entry := _read(line.strip(b"\0"))) is not None]

    def clear(self) -> None:
        """Remove all entries; the room stays reserved."""
        os.ftruncate(self._file, ROOM)
        os.pwrite(self._file, bytes(ROOM), 0)
        os.fsync(self._file)
        self._slots.clear()
        self._find_free_slots()

    def _content(self) -> bytes:
        return os.pread(self._file, os.fstat(self._file).st_size, 0)

    def _find_free_slots(self) -> None:
        content = self._content()
        self._count = -(-len(content) // ENTRY_SIZE)
        parts = (content[slot * ENTRY_SIZE : (slot + 1) * ENTRY_SIZE] for slot in range(self._count))
        free = [slot for slot, part in enumerate(parts) if not part.strip(b"\0")]
        self._free = free[::-1]

    def _take_slot(self) -> int:
        if not self._free:
            self._free.append(self._count)
            self._count += 1
        return self._free.pop()

    def _write(self, slot: int, line: bytes) -> None:
        os.pwrite(self._file, line.ljust(ENTRY_SIZE, b"\0"), slot * ENTRY_SIZE)
        os.fsync(self._file)


class NullJournal:
    """`ports.Journal` of a store that is not in a file: the id is in the log, and nowhere else."""

    def verify(self) -> None:
        """There is no file."""

    async def append(self, run: Run) -> None:
        """Log the kickoff id."""
        log.error("kickoff_id_journaled", run_id=run.run_id, crew=run.crew, kickoff_id=run.kickoff_id)

    async def drop(self, run: Run) -> None:
        """Nothing was kept."""

    def entries(self) -> list[JournalEntry]:
        """Nothing."""
        return []

    def clear(self) -> None:
        """Forget nothing."""


@asynccontextmanager
async def open_journal(store_url: str) -> AsyncIterator[KickoffJournal | NullJournal]:
    """The journal beside a SQLite file; raises `StoreUnavailable` if its file cannot be had."""
    _, is_file, path = store_url.partition("sqlite:///")
    if not is_file or path in ("", ":memory:"):
        yield NullJournal()
        return
    journal = _beside(Path(path))
    file = open_private(journal)
    try:
        _reserve(file)
        yield KickoffJournal(file, journal)
    finally:
        os.close(file)


def _beside(store: Path) -> Path:
    """The one journal of a store, by whatever links its path leads there."""
    real = store.resolve()
    return real.with_name(f"{real.name}.kickoffs")


def _reserve(file: int) -> None:
    missing = ROOM - os.fstat(file).st_size
    if missing <= 0:
        return
    try:
        os.pwrite(file, bytes(missing), ROOM - missing)
        os.fsync(file)
    except OSError as error:
        raise StoreUnavailable(f"the kickoff journal cannot be written: {error.strerror}") from None


def _read(line: bytes) -> JournalEntry | None:
    try:
        return JournalEntry(**json.loads(line))
    except (ValueError, TypeError):
        return None
