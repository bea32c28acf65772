"""Where several processes share a store, keep to a fair share of the runs under way."""

from collections.abc import Mapping, Sequence
from itertools import product

import structlog

from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.store import Store
from bridge.steps._crew import Crew
from bridge.steps.maintenance._interval import Interval

EVERY = 3.0  # seconds

log = structlog.get_logger()


class Rebalance:
    """Counts processes and runs; whoever follows more than its share gives the others some at once."""

    name = "share"
    kind = Quarantined.TASK

    def __init__(self, crews: Mapping[str, Crew], store: Store, clock: Clock, notify_recover: Notify) -> None:
        self._crews = crews
        self._store = store
        self._notify_recover = notify_recover
        self._rounds = Interval(EVERY, clock)

    async def claim(self, room: int) -> Sequence[float]:
        """The time of one count, when that is due."""
        return self._rounds.claim(room)

    async def handle(self, _: float) -> None:
        """One count, and what follows from it."""
        given: list[str] = []
        for name, membership in (await self._store.membership()).items():
            crew = self._crews[name]
            given += crew.tracker.queue.some(crew.share.update(membership))
        if given:
            freed = await self._store.release_runs(given)  # first, or nobody would follow them if this fails
            for crew, run_id in product(self._crews.values(), given):
                crew.tracker.forget(run_id)
            log.info("runs_released", runs=freed)
        self._notify_recover()  # what others gave back may be ours now

    def about(self, _: float) -> dict[str, object]:
        """Return nothing: all rounds are alike."""
        return {}

    async def quarantine(self, _: float) -> None:
        """Leave it to the next round."""

    def pause(self) -> float:
        """Seconds until the next count."""
        return self._rounds.pause()
