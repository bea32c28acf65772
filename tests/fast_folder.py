"""A folder in memory, for tests that many times write what no test of theirs could lose."""

import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")


def fast_folder() -> tempfile.TemporaryDirectory[str]:
    """In memory where there is such a place; what a disk may lose is tested elsewhere."""
    return tempfile.TemporaryDirectory(prefix="bridge-test-", dir=_MEMORY if _MEMORY.is_dir() else None)
