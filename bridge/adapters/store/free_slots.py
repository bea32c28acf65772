"""Slots of crews that are certainly free, so that runs under way, which may be a hundred thousand, are rarely counted.

Only a claim takes a slot. So what was free when they were counted, less what was claimed since, is free now, however
many have become free meanwhile; as long as no other process claims from the same store.
"""


class FreeSlots:
    """By crew and its `max_running`; to be used by the one who writes."""

    def __init__(self) -> None:
        self._free: dict[str, tuple[int, int]] = {}

    def of(self, crew: str, max_running: int) -> int:
        """Return how many slots are free at least."""
        limit, free = self._free.get(crew, (max_running, 0))
        return free if limit == max_running else 0

    def counted(self, crew: str, max_running: int, free: int) -> None:
        """So many are free now."""
        self._free[crew] = (max_running, free)

    def taken(self, crew: str, number: int) -> None:
        """So many were claimed, or may have been."""
        limit, free = self._free[crew]
        self._free[crew] = (limit, free - number)
