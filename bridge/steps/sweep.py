"""Step 7: say that this process lives, give up those that are silent, forget what is old."""

from collections.abc import Sequence

import structlog

from bridge.ports import Clock, Store

BEAT_EVERY = 3.0
SILENT_AFTER = 12.0  # seconds without a sign of life, four times what a living process takes

log = structlog.get_logger()


class Sweep:
    """The housekeeping of ownership and retention; `retention` in seconds after a run's end."""

    name = "sweep"

    def __init__(self, store: Store, clock: Clock, retention: float) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        self._due = 0.0

    async def claim(self, room: int) -> Sequence[float]:
        """The time of one round, when that is due."""
        now = self._clock()
        if not room or now < self._due:
            return []
        self._due = now + BEAT_EVERY
        return [now]

    async def handle(self, now: float) -> None:
        """One round of housekeeping."""
        await self._store.beat(now)
        buried = await self._store.bury(now, SILENT_AFTER)
        forgotten = await self._store.forget(now - self._retention)
        if buried or forgotten:
            log.info("swept", processes_given_up=buried, runs_forgotten=forgotten)

    def pause(self) -> float:
        """Seconds until the next round."""
        return self._due - self._clock()
