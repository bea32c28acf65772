"""Keeps the files of a SQLite store private, refuses links of other users, and detects replaced files.

SQLite continues to write to a file that was removed or replaced, so confirmed writes would be lost with the process.
Therefore the identities of the files are compared before a write is confirmed.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from bridge.core.errors import StoreBroken, StoreDamaged, StoreMisconfigured, StoreReplaced, StoreUnavailable
from bridge.core.runs.quarantine import Quarantined
from bridge.observability.logging import log_fault
from bridge.ports.lifecycle import ReportFault

PRIVATE = 0o600
VERIFY_INTERVAL = 1.0  # seconds
_OTHERS = 0o077

log = structlog.get_logger()


class WatchedFiles:
    """The files in use, by path and identity (device and inode)."""

    def __init__(self) -> None:
        self._identities: dict[Path, tuple[int, int]] = {}

    def add(self, *paths: Path) -> None:
        """Watch the files that have these paths now."""
        self._identities |= {path: _identity(path.stat()) for path in paths}

    def clear(self) -> None:
        """Stop watching."""
        self._identities.clear()

    def verify(self) -> None:
        """Raise `StoreReplaced` if a path leads to another file, or to none."""
        for path, identity in tuple(self._identities.items()):
            try:
                found = _identity(path.stat())
            except (FileNotFoundError, NotADirectoryError):
                found = None
            except OSError as error:
                raise StoreBroken(f"the store cannot be relied on: {error.strerror}: {path}") from None
            if found != identity:
                raise StoreReplaced(
                    f"the store's file {path} was removed or replaced while the bridge used it; nothing was confirmed "
                    "after that. Put the file back or restore a backup before the next start"
                )


class StoreGuard:
    """`ports.Service`: verifies the files of the store at an interval, also while nothing is written."""

    name = "store-guard"

    def __init__(
        self,
        verifications: Sequence[Callable[[], None]],
        report: ReportFault = log_fault,
        interval: float = VERIFY_INTERVAL,
    ) -> None:
        self._verifications = verifications
        self._report = report
        self._interval = interval
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Verify until stopped; raises `StoreReplaced`, `StoreBroken`, or `StoreDamaged`."""
        while not self._stopping.is_set():
            await asyncio.to_thread(self._verify)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._interval)

    def stop(self) -> None:
        """Stop verifying."""
        self._stopping.set()

    def _verify(self) -> None:
        for verify in self._verifications:
            try:
                verify()
            except (StoreBroken, StoreDamaged):
                raise
            except Exception as error:  # noqa: BLE001 - unrelated to the state of the files
                self._report(Quarantined.TASK, error, task="verify")


def refuse_foreign_link(path: Path) -> None:
    """Raise `StoreMisconfigured` if the store is a symbolic link of another user, or a dangling one."""
    if not path.is_symlink():
        return
    if path.lstat().st_uid not in {0, os.geteuid()}:
        raise StoreMisconfigured(f"the store {path} is a symbolic link of another user: name the file itself")
    if not path.exists():
        raise StoreMisconfigured(f"the store {path} is a dangling symbolic link: name the file itself")


def make_private(path: Path, *, create: bool) -> None:
    """Make an existing file private; with `create`, create it if it does not exist. Raises as `open_private`."""
    if create and not os.path.lexists(path):
        os.close(open_private(path))
        return
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(found.st_mode):
        raise StoreMisconfigured(f"{path} is a symbolic link: remove it")
    if found.st_nlink > 1:
        raise StoreMisconfigured(f"the store's file {path} has a second name, a hard link: remove one of them")
    _tighten(path, found)


def open_private(path: Path) -> int:
    """Open a file for reading and writing, created private; raises `StoreMisconfigured` or `StoreUnavailable`."""
    if path.is_symlink():
        raise StoreMisconfigured(f"{path} is a symbolic link: remove it")
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
    except OSError as error:
        raise StoreUnavailable(f"the store cannot be opened: {error.strerror}: {error.filename}") from None
    _tighten(path, os.fstat(file))
    return file


def is_at(path: Path, file: int) -> bool:
    """Return whether an open file still has this path."""
    try:
        return _identity(path.stat()) == _identity(os.fstat(file))
    except FileNotFoundError:
        return False


def _tighten(path: Path, found: os.stat_result) -> None:
    """Remove the permissions of group and others: the store contains requests, and the key of its webhook URLs."""
    mode = stat.S_IMODE(found.st_mode)
    if not mode & _OTHERS:
        return
    try:
        path.chmod(mode & ~_OTHERS)
    except PermissionError:
        log.warning("store_file_exposed", path=str(path), mode=f"{mode:04o}")
    else:
        log.info("store_file_made_private", path=str(path), former_mode=f"{mode:04o}")


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
