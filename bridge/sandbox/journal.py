"""Append lines durably to a file, with group commit.

Appends that arrive during a write wait for it; then one of them writes the whole batch. One fsync covers many appends,
without waiting for a timer.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path


class Journal:
    """An append-only file of lines. Opening it removes a last line truncated by a crash."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines = _whole_lines(path)
        """The content of the file when it was opened, without line endings."""
        self._file = path.open("ab", buffering=0)
        self._write_lock = asyncio.Lock()
        self._pending: list[bytes] = []
        self._appended = 0
        self._durable = 0

    async def append(self, line: bytes) -> None:
        """Append one line (without line ending); return once it is on disk."""
        self._pending.append(line)
        self._appended += 1
        ticket = self._appended
        async with self._write_lock:
            if self._durable < ticket:
                await self._flush()

    async def replace(self, lines: Callable[[], Iterable[bytes]]) -> None:
        """Replace the content of the file with these lines.

        `lines` is called under the write lock; it must include the pending lines that are to be kept.
        """
        async with self._write_lock:
            content, upto = _joined(lines()), self._appended
            self._pending = []
            await asyncio.to_thread(self._rewrite, content)
            self._durable = upto

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    async def _flush(self) -> None:
        content, upto = _joined(self._pending), self._appended
        self._pending = []
        await asyncio.to_thread(self._write, content)
        self._durable = upto

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        os.fsync(self._file.fileno())

    def _rewrite(self, content: bytes) -> None:
        temporary = self._path.with_suffix(f"{self._path.suffix}.new")
        temporary.write_bytes(content)
        temporary.replace(self._path)
        self._file.close()
        self._file = self._path.open("ab", buffering=0)
        os.fsync(self._file.fileno())


def _joined(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _whole_lines(path: Path) -> list[bytes]:
    content = path.read_bytes() if path.exists() else b""
    *lines, rest = content.split(b"\n")
    if rest:
        os.truncate(path, len(content) - len(rest))
    return lines
