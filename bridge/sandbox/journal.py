"""Lines in a file that survive the death of the process, written in batches.

Whoever comes while a write is under way waits for it, and then one of them writes for all: one fsync serves a crowd,
and nobody waits for a timer.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path


class Journal:
    """An append-only file of lines. Opening it repairs a last line that was cut off by a crash."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines = _whole_lines(path)
        """What the file held when it was opened, without line ends."""
        self._file = path.open("ab", buffering=0)
        self._turn = asyncio.Lock()
        self._pending: list[bytes] = []
        self._appended = 0
        self._durable = 0

    async def append(self, line: bytes) -> None:
        """Add one line (without line end); returns when it is on the disk."""
        self._pending.append(line)
        self._appended += 1
        ticket = self._appended
        async with self._turn:
            if self._durable < ticket:
                await self._flush()

    async def replace(self, lines: Callable[[], Iterable[bytes]]) -> None:
        """Let the file hold these lines and nothing else.

        They are asked for when it is their turn, and must then include those still waiting that are to be kept.
        """
        async with self._turn:
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
        beside = self._path.with_suffix(f"{self._path.suffix}.new")
        beside.write_bytes(content)
        beside.replace(self._path)
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
