"""Plays histories by seed, each on a fresh store in memory."""

import asyncio
import shutil
import tempfile
from pathlib import Path

from bridge.adapters.store import migrate_store
from tests.simulation.history import History
from tests.simulation.promises import check

BRIDGES = (1, 1, 1, 1, 1, 1, 1, 1, 2, 3)
"""How many are alive at once, by the last digit of the seed."""


def bridges(seed: int) -> int:
    """How many bridges the history of this seed has."""
    return BRIDGES[seed % len(BRIDGES)]


def empty_store(folder: Path) -> Path:
    path = folder / "empty.db"
    asyncio.run(migrate_store(f"sqlite:///{path}"))
    return path


def play(seed: int, empty: Path) -> History:
    """One history with its checks; what is raised says how to see it again."""
    with tempfile.TemporaryDirectory(dir=empty.parent) as folder:
        file = Path(folder) / "bridge.db"
        shutil.copy(empty, file)
        history = History(seed, file, bridges(seed))
        try:
            history.play()
            check(history)
        except BaseException as error:
            error.add_note(f"to see it again: make simulate SEED={seed}")
            raise
        return history
