"""Makes a backup of a SQLite store: one consistent file, also while a bridge writes to the store."""

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from bridge.adapters.store.files import PRIVATE
from bridge.adapters.store.schema import BACKUP
from bridge.adapters.store.sqlite import Sqlite
from bridge.core.errors import BridgeError, StoreDamaged, StoreUnavailable

PAGES = 4096  # copied between two calls of `Progress`, and written to the disk together: usually 16 MiB
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}

Progress = Callable[[int, int], None]
"""How many pages are copied, and how many there are."""


def back_up(url: str, file: Path, now: float, progress: Progress) -> None:
    """Copy the SQLite store that a URL names to a new file with mode 0600, which is on the disk on return.

    The copy is the store as of one moment. It is marked with the time `now`: a bridge that starts on it holds the
    runs that are accepted.
    Until it is complete and sound, its name ends with `.partial`. Raises `FileExistsError` or another `OSError`,
    `StoreUnavailable`, or `StoreDamaged`.
    """
    store, file = Sqlite(url), file.absolute()
    _refuse_existing(file)
    partial = file.with_name(f"{file.name}.partial")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    try:
        os.fchmod(descriptor, PRIVATE)  # whatever the umask
        with closing(store.open_read_only()) as source, closing(_open(partial)) as copy:
            _copy(source, copy, descriptor, progress)
            _mark_and_check(copy, now)
        os.fsync(descriptor)
        _refuse_existing(file)
        partial.rename(file)
        _sync_folder(file.parent)
    except sqlite3.Error as error:
        partial.unlink(missing_ok=True)
        raise _store_error(error) from None
    except BaseException:  # also Ctrl-C: no file may look like a backup unless it is one
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _copy(source: sqlite3.Connection, copy: sqlite3.Connection, descriptor: int, progress: Progress) -> None:
    """Copy the state that the store has now."""

    def on_pages(_status: int, remaining: int, total: int) -> None:
        os.fdatasync(descriptor)  # little at a time; otherwise the writes of the bridge would wait at the end
        progress(total - remaining, total)

    source.execute("BEGIN")  # and a read: from here on, the copy need not begin again when the bridge writes
    if not source.execute("SELECT 1 FROM sqlite_master WHERE name = 'store_metadata'").fetchall():
        raise StoreUnavailable("the store is empty: there is nothing to back up")
    source.backup(copy, pages=PAGES, progress=on_pages)


def _mark_and_check(copy: sqlite3.Connection, now: float) -> None:
    """Make the copy a single file that is known to be a backup; raise `StoreDamaged` if it is not sound."""
    copy.execute("PRAGMA synchronous=OFF")  # the caller syncs the file
    copy.execute("PRAGMA journal_mode=DELETE")  # without a log beside it
    made_at = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    copy.execute("INSERT OR REPLACE INTO store_metadata (name, value) VALUES (?, ?)", (BACKUP, made_at.encode()))
    verdict = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if verdict != "ok":
        raise StoreDamaged(f"the store is damaged, so no backup was made: {verdict}")


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def _refuse_existing(file: Path) -> None:
    if os.path.lexists(file):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))


def _sync_folder(folder: Path) -> None:
    """Make a new name durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _store_error(error: sqlite3.Error) -> BridgeError:
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
        return StoreDamaged(f"the store is damaged, so no backup was made: {error}")
    return StoreUnavailable(f"the backup failed: {error}")
