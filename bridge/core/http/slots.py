"""Slots that several holders share, so that none of them can take all."""

from collections import Counter


class Slots:
    """At most `total` slots at once. A holder may have at most half of those that the others do not hold."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._held: Counter[str] = Counter()

    def take(self, holder: str, *, fairly: bool = True) -> bool:
        """Take a slot; return whether there was one for this holder. Without `fairly`, it may take every one."""
        if self._free <= (self._held[holder] if fairly else 0):
            return False
        self._free -= 1
        self._held[holder] += 1
        return True

    def release(self, holder: str) -> None:
        """Return a slot that was taken."""
        self._free += 1
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
