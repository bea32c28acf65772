"""Detects a SQLite file or its log that was truncated or overwritten in place while the bridge uses them.

SQLite does not notice: it reads from its caches, and reads missing pages as zeros. Changes that a checkpoint, a
`VACUUM`, or a backup tool of another process can cause are accepted. https://www.sqlite.org/walformat.html describes
the formats.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from bridge.core.errors import StoreBroken, StoreReplaced

_MAGIC = b"SQLite format 3\0"
_PAGE_SIZE, _PAGES = slice(16, 18), slice(28, 32)  # of the file's header
_HEADER = 100  # bytes
_INDEX_HEADER = struct.Struct("=I 10x H II 8x 8s 8x")  # of `-shm`, twice, in the machine's byte order
_INDEX = struct.Struct(f"={_INDEX_HEADER.size}s{_INDEX_HEADER.size}s I 28x I")
_INDEX_VERSION = 3007000
_LOG_HEADER, _FRAME_HEADER = 32, 24  # bytes
_LOG_SALT = slice(16, 24)


@dataclass(frozen=True, slots=True)
class LogIndex:
    """The index of the log (`-shm`).

    `frames`, `salt`: of the log; `pages`: of the database; `copied`, `begun`: frames that checkpoints have copied, or
    have begun to copy, into the file.
    """

    page_size: int
    frames: int
    pages: int
    salt: bytes
    copied: int
    begun: int

    def is_log(self, size: int, header: bytes) -> bool:
        """Return whether a log of `size` bytes with this header contains all frames."""
        needed = _LOG_HEADER + self.frames * (_FRAME_HEADER + self.page_size)
        return self.frames == 0 or (size >= needed and header[_LOG_SALT] == self.salt)

    def is_file(self, size: int, pages: int) -> bool:
        """Return whether a file of `size` bytes contains the `pages` that its header names.

        Pages may be missing from the start of a checkpoint until all frames are copied.
        """
        all_copied = self.copied != self.frames or size >= self.pages * self.page_size
        return all_copied and (self.begun > 0 or size >= pages * self.page_size)


class OpenFiles:
    """File descriptors, other than those of SQLite, on the files of a store.

    They must stay open until SQLite has closed its own: closing any descriptor of a file releases the process's POSIX
    locks on it.
    """

    def __init__(self, path: Path) -> None:
        self._paths = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
        self._files = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in self._paths]
        self._largest = os.fstat(self._files[0]).st_size
        self._lock = Lock()

    def close(self) -> None:
        """Close the files; call it after SQLite has closed them."""
        with self._lock:
            while self._files:
                os.close(self._files.pop())

    def verify(self) -> None:
        """Raise `StoreReplaced` if the file or its log was truncated or overwritten, `StoreBroken` if it is unreadable.

        `-shm` is read before and after the others, because SQLite changes it first. Callable from any thread.
        """
        with self._lock:
            if self._files:
                self._verify(*self._files)

    def _verify(self, file: int, log: int, index: int) -> None:
        try:
            before = read_log_index(os.pread(index, _INDEX.size, 0))
            size, header = os.fstat(file).st_size, os.pread(file, _HEADER, 0)
            log_size, log_header = os.fstat(log).st_size, os.pread(log, _LOG_HEADER, 0)
            after = read_log_index(os.pread(index, _INDEX.size, 0))
        except OSError as error:
            raise StoreBroken(f"the store cannot be relied on: {error.strerror}: {self._paths[0]}") from None
        log_index = before if before == after else None
        if not is_sound(size, header, self._largest) or (log_index and not log_index.is_file(size, _pages(header))):
            raise _truncated(self._paths[0])
        if log_index and not log_index.is_log(log_size, log_header):
            raise _truncated(self._paths[1])
        self._largest = size


def is_sound(size: int, header: bytes, largest: int) -> bool:
    """Return whether SQLite can have left a file of `size` bytes with this header; `largest`: its size so far.

    A file grows by checkpoints. It shrinks only after a `VACUUM`, to the pages that its header names.
    """
    if header[: len(_MAGIC)] != _MAGIC:
        return False
    return size >= largest or size == _pages(header) * _page_size(int.from_bytes(header[_PAGE_SIZE]))


def read_log_index(content: bytes) -> LogIndex | None:
    """Parse the beginning of `-shm`; return None while SQLite changes it."""
    if len(content) < _INDEX.size:
        return None
    first, second, copied, begun = _INDEX.unpack(content)
    version, page_size, frames, pages, salt = _INDEX_HEADER.unpack(first)
    if first != second or version != _INDEX_VERSION:
        return None
    return LogIndex(_page_size(page_size), frames, pages, salt, copied, begun)


def _pages(header: bytes) -> int:
    return int.from_bytes(header[_PAGES])


def _page_size(stored: int) -> int:
    return 65536 if stored == 1 else stored


def _truncated(path: Path) -> StoreReplaced:
    return StoreReplaced(
        f"the store's file {path} was truncated or overwritten while the bridge used it; nothing was confirmed "
        "after that. Restore a backup before the next start"
    )
