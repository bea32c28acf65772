"""A lower bound of each crew's free slots, so that runs in progress, perhaps 100,000, are rarely counted.

Measured, per run in claims of ten: 0.19 ms of CPU instead of 0.28 with 1,000 runs in progress, and 0.21 instead of 0.40
with 20,000.

Only a claim takes a slot. So the slots that were free at the last count, less those claimed since, are still free, as
long as no other process claims from the same store.
"""


class FreeSlots:
    """The lower bounds, by crew and its `max_running`; used by the writer thread only."""

    def __init__(self) -> None:
        self._free: dict[str, tuple[int, int]] = {}

    def at_least(self, crew: str, max_running: int) -> int:
        """Return a number of slots that are certainly free."""
        limit, free = self._free.get(crew, (max_running, 0))
        return free if limit == max_running else 0

    def counted(self, crew: str, max_running: int, free: int) -> None:
        """Record a count."""
        self._free[crew] = (max_running, free)

    def taken(self, crew: str, number: int) -> None:
        """Record a claim, whether or not its commit is confirmed."""
        limit, free = self._free[crew]
        self._free[crew] = (limit, free - number)
