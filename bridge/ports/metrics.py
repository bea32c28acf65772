"""What listeners and the store report for the metrics, so that they know no metrics library."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bridge.core.runs.model import Run

CountRequest = Callable[[str], None]
"""Counts a kickoff request by its outcome: `accepted`, `replayed`, or the code of the refusal."""


def _ignore(_: Any) -> None:
    """Report nothing."""


@dataclass(frozen=True, slots=True)
class StoreMetrics:
    """Called by the store; by default, nothing is counted.

    `stale_write`: a write was discarded. `committed`: a transaction was committed, in so many seconds. `claimed`: a run
    is about to be POSTed. `ended`: a run was written with its final event, which happens once.
    """

    stale_write: Callable[[], None] = lambda: None
    committed: Callable[[float], None] = _ignore
    claimed: Callable[[Run], None] = _ignore
    ended: Callable[[Run], None] = _ignore
