"""Schedules rounds for steps that work on everything at once."""

from collections.abc import Sequence

from bridge.ports.lifecycle import Clock


class Interval:
    """Keeps when the next round is due, `every` seconds after the last; a step's item is the time of its round."""

    def __init__(self, every: float, clock: Clock) -> None:
        self._every = every
        self._clock = clock
        self._due = 0.0

    def claim(self, limit: int) -> Sequence[float]:
        """Return the time of one round if it is due."""
        now = self._clock()
        if not limit or now < self._due:
            return []
        self._due = now + self._every
        return [now]

    def expedite(self) -> None:
        """Make the next round due now."""
        self._due = 0.0

    def pause(self) -> float:
        """Seconds until the next round."""
        return self._due - self._clock()
