"""Simulates histories by seed, each on a fresh store in memory."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from bridge.adapters.store import migrate_store
from tests.simulation.history import History
from tests.simulation.promises import check

BRIDGES = (1, 1, 1, 1, 1, 1, 1, 1, 2, 3)
"""The number of concurrent bridges, by the last digit of the seed."""


def bridges(seed: int) -> int:
    """The number of bridges in the history of this seed."""
    return BRIDGES[seed % len(BRIDGES)]


def empty_store(folder: Path) -> Path:
    path = folder / "empty.db"
    asyncio.run(migrate_store(f"sqlite:///{path}"))
    return path


def play(seed: int, empty: Path) -> History:
    """Run one history with its checks; an error contains the command that repeats it."""
    with tempfile.TemporaryDirectory(dir=empty.parent) as folder:
        file = Path(folder) / "bridge.db"
        shutil.copy(empty, file)
        history = History(seed, file, bridges(seed))
        try:
            history.play()
            check(history)
        except BaseException as error:
            error.add_note(f"to repeat it: make simulate SEED={seed}")
            raise
        return history
