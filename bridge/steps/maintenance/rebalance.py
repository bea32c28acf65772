"""Where processes share a store, keep the runs that this one tracks within its fair share."""

from collections.abc import Mapping
from itertools import product

import structlog

from bridge.ports.cluster import Cluster
from bridge.ports.lifecycle import Clock
from bridge.signals import Signals
from bridge.steps._crew import Crew
from bridge.steps.maintenance._rounds import Rounds

INTERVAL = 3.0  # seconds

log = structlog.get_logger()


class Rebalance(Rounds):
    """Counts processes and runs, and releases runs beyond the fair share at once."""

    name = "rebalance"

    def __init__(self, crews: Mapping[str, Crew], store: Cluster, clock: Clock, signals: Signals) -> None:
        super().__init__(INTERVAL, clock)
        self._crews = crews
        self._store = store
        self._signals = signals

    async def handle(self, _: float) -> None:
        """Read the membership and release the excess."""
        excess: list[str] = []
        for name, membership in (await self._store.membership()).items():
            crew = self._crews[name]
            excess += crew.tracker.queue.newest(crew.share.update(membership))
        if excess:
            # First, because this process must keep tracking them if this fails.
            released = await self._store.release_runs(excess)
            for crew, run_id in product(self._crews.values(), excess):
                crew.tracker.forget(run_id)
            log.info("runs_released", runs=released)
        self._signals.recover()  # this process may claim what others have released
