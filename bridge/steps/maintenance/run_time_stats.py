"""Synchronize run times with the store, so that they survive restarts and all processes learn from all of them."""

import math
from collections.abc import Mapping

from bridge.core.polling import MAX_RUN_TIMES
from bridge.ports.lifecycle import Clock
from bridge.ports.runs import RunTimeStore
from bridge.steps._crew import Crew
from bridge.steps.maintenance._rounds import Rounds

INTERVAL = 10.0  # seconds
_OVERLAP = 60.0  # seconds of clock difference and write delay between processes that a read covers


class SyncRunTimes(Rounds):
    """Writes the run times observed here; reads those of earlier and other processes."""

    name = "run-time-stats"

    def __init__(self, crews: Mapping[str, Crew], store: RunTimeStore, clock: Clock, *, shared: bool) -> None:
        super().__init__(INTERVAL, clock)
        self._crews = crews
        self._store = store
        self._shared = shared
        self._read_until: dict[str, float] = {}

    async def handle(self, now: float) -> None:
        """Synchronize all crews."""
        for crew in self._crews.values():
            await self._write(crew)
            if self._shared or crew.name not in self._read_until:
                await self._read(crew, now)

    async def _write(self, crew: Crew) -> None:
        new = crew.planner.take_unsaved()  # if the write fails, they stay in this process's planner
        if new:
            await self._store.add(crew.name, new, crew.planner.changed_at, MAX_RUN_TIMES)

    async def _read(self, crew: Crew, now: float) -> None:
        after = self._read_until.get(crew.name, -math.inf)
        crew.planner.add(await self._store.newest(crew.name, after, MAX_RUN_TIMES))
        self._read_until[crew.name] = now - _OVERLAP
