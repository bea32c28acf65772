"""Small and read-only disks: real ones, mounted for a test where permitted."""

import functools
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.patience import PATIENCE


@functools.cache
def may_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return done.returncode == 0


needs_mount = pytest.mark.skipif(not may_mount(), reason="mounting is not permitted here")


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A folder on a file system of its own."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(store: Path) -> Iterator[None]:
    """Fill the disk: the store's log is emptied first, because it would have space for some commits."""
    with closing(sqlite3.connect(store, isolation_level=None, timeout=PATIENCE)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        filler = store.with_name("filler")
        fill(filler)
    try:
        yield
    finally:
        filler.unlink()


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    os.write(file.fileno(), bytes(size))
            except OSError:
                continue


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """As after a disk error, when the kernel remounts it; no process may be writing to it."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
