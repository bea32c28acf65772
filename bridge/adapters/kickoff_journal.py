"""Writes kickoff ids that the store could not save to a file beside it; without it, a crash would lose them.

Space is reserved in advance, so that a full disk does not matter. Each entry has a slot of one disk sector, which is on
the disk when `append` returns and free again when the store has the id. A slot that a crash truncated is skipped.
"""

import asyncio
import itertools
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

RESERVED = 1024 * 1024  # bytes; 2048 ids. The file grows beyond that while the disk has space
SLOT_SIZE = 512  # bytes; twice the longest line

log = structlog.get_logger()


class KickoffJournal:
    """Implements `ports.Journal` in an open file."""

    def __init__(self, file: int, path: Path) -> None:
        self._file = file
        self._watched = WatchedFiles()
        self._watched.add(path)
        self._path = path
        self._slots: dict[tuple[str, int], int] = {}
        self._used = {slot for slot, content in enumerate(self._contents()) if content}

    def verify(self) -> None:
        """Raise `StoreReplaced` if the file was removed, replaced, or truncated."""
        self._watched.verify()
        if os.fstat(self._file).st_size < RESERVED:
            raise StoreReplaced(
                f"the kickoff journal {self._path} was truncated while the bridge used it; kickoff ids that it held "
                "are in the log (kickoff_id_journaled)"
            )

    async def append(self, run: Run) -> None:
        """Append the kickoff id of the run's current attempt."""
        log.error("kickoff_id_journaled", **run.log_fields, kickoff_id=run.kickoff_id)
        line = json.dumps({"run_id": run.run_id, "attempt": run.attempt, "kickoff_id": run.kickoff_id})
        slot = next(slot for slot in itertools.count() if slot not in self._used)
        self._used.add(slot)
        self._slots[run.run_id, run.attempt] = slot
        await asyncio.to_thread(self._write, slot, line.encode())

    async def drop(self, run: Run) -> None:
        """Free the slot of an entry. Not synced: an entry that reappears after a crash is harmless."""
        if (slot := self._slots.pop((run.run_id, run.attempt), None)) is not None:
            await asyncio.to_thread(os.pwrite, self._file, bytes(SLOT_SIZE), slot * SLOT_SIZE)
            self._used.remove(slot)

    def entries(self) -> list[JournalEntry]:
        """Return every entry appended since the last `clear` and not dropped."""
        return [entry for content in self._contents() if (entry := _parse(content)) is not None]

    def clear(self) -> None:
        """Remove all entries; the space stays reserved."""
        os.ftruncate(self._file, RESERVED)
        os.pwrite(self._file, bytes(RESERVED), 0)
        os.fsync(self._file)
        self._slots.clear()
        self._used.clear()

    def _contents(self) -> list[bytes]:
        """Return the content of every slot."""
        content = os.pread(self._file, os.fstat(self._file).st_size, 0)
        return [content[at : at + SLOT_SIZE].rstrip(b"\0") for at in range(0, len(content), SLOT_SIZE)]

    def _write(self, slot: int, line: bytes) -> None:
        os.pwrite(self._file, line.ljust(SLOT_SIZE, b"\0"), slot * SLOT_SIZE)
        os.fsync(self._file)


class NullJournal:
    """Implements `ports.Journal` for stores without a file: kickoff ids are only logged."""

    def verify(self) -> None:
        """Do nothing: there is no file."""

    async def append(self, run: Run) -> None:
        """Log the kickoff id."""
        log.error("kickoff_id_journaled", **run.log_fields, kickoff_id=run.kickoff_id)

    async def drop(self, run: Run) -> None:
        """Do nothing."""

    def entries(self) -> list[JournalEntry]:
        """Return no entries."""
        return []

    def clear(self) -> None:
        """Do nothing."""


@asynccontextmanager
async def open_journal(store_url: str) -> AsyncIterator[KickoffJournal | NullJournal]:
    """Open the journal beside a SQLite file; raises `StoreUnavailable` if its file cannot be opened or extended."""
    _, is_file, path = store_url.partition("sqlite:///")
    if not is_file or path in ("", ":memory:"):
        yield NullJournal()
        return
    journal = _journal_path(Path(path))
    file = open_private(journal)
    try:
        _reserve(file)
        yield KickoffJournal(file, journal)
    finally:
        os.close(file)


def _journal_path(store: Path) -> Path:
    """Return the path of the journal, which is the same for every symbolic link to the store."""
    real = store.resolve()
    return real.with_name(f"{real.name}.kickoffs")


def _reserve(file: int) -> None:
    missing = RESERVED - os.fstat(file).st_size
    if missing <= 0:
        return
    try:
        os.pwrite(file, bytes(missing), RESERVED - missing)
        os.fsync(file)
    except OSError as error:
        raise StoreUnavailable(f"the kickoff journal cannot be written: {error.strerror}") from None


def _parse(line: bytes) -> JournalEntry | None:
    try:
        return JournalEntry(**json.loads(line))
    except (ValueError, TypeError):
        return None
