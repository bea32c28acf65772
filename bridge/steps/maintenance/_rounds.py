"""What the steps that work on everything at once, in rounds, have in common."""

from collections.abc import Sequence

from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock


class Rounds:
    """The rest of `ports.Step` for a step that adds `name` and `handle`.

    Its one item is the time of a round, due `every` seconds after the last. A round that fails is left to the next one.
    """

    kind = Quarantined.TASK

    def __init__(self, every: float, clock: Clock) -> None:
        self._every = every
        self._clock = clock
        self._due = 0.0

    async def claim(self, limit: int) -> Sequence[float]:
        """Return the time of one round if it is due."""
        now = self._clock()
        if not limit or now < self._due:
            return []
        self._due = now + self._every
        return [now]

    def about(self, _: float) -> dict[str, object]:
        """Return nothing: all rounds are alike."""
        return {}

    async def quarantine(self, _: float) -> None:
        """Do nothing."""

    def pause(self) -> float:
        """Seconds until the next round."""
        return self._due - self._clock()

    def _expedite(self) -> None:
        """Make the next round due now."""
        self._due = 0.0
