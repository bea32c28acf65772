"""The pace of steps that look after everything at once: one round every so many seconds."""

from collections.abc import Sequence

from bridge.ports.lifecycle import Clock


class Interval:
    """Rounds at most `every` seconds apart, by this clock; a step's item is the time of its round."""

    def __init__(self, every: float, clock: Clock) -> None:
        self._every = every
        self._clock = clock
        self._due = 0.0

    def claim(self, room: int) -> Sequence[float]:
        """The time of one round, when that is due."""
        now = self._clock()
        if not room or now < self._due:
            return []
        self._due = now + self._every
        return [now]

    def expedite(self) -> None:
        """The next round is due at once."""
        self._due = 0.0

    def pause(self) -> float:
        """Seconds until the next round."""
        return self._due - self._clock()
