"""Send this process's heartbeat, expire silent processes, and delete runs past their retention."""

import math
from collections.abc import Mapping

import structlog

from bridge.core.errors import ProcessExpired
from bridge.ports.cluster import Cluster
from bridge.ports.lifecycle import Clock
from bridge.signals import Signals
from bridge.steps._crew import Crew
from bridge.steps.maintenance._rounds import Rounds

HEARTBEAT_INTERVAL = 2.0
EXPIRE_AFTER = 9.0  # seconds without a heartbeat, more than four intervals
DELETE_BATCH = 2000  # runs; no other write proceeds while they are deleted

log = structlog.get_logger()


class Housekeeping(Rounds):
    """Keeps ownership and retention up to date; `retention` in seconds after a run's end."""

    name = "housekeeping"

    def __init__(
        self, crews: Mapping[str, Crew], store: Cluster, clock: Clock, retention: float, signals: Signals
    ) -> None:
        super().__init__(HEARTBEAT_INTERVAL, clock)
        self._crews = crews
        self._store = store
        self._retention = retention
        self._signals = signals
        self._last_heartbeat_at = -math.inf
        self._alive_since = 0.0
        self._unserved: frozenset[str] = frozenset()

    async def handle(self, now: float) -> None:
        """Do one round."""
        await self._heartbeat(now)
        others_had_time = now - self._alive_since >= EXPIRE_AFTER  # for a heartbeat since this process resumed its own
        expired = await self._store.expire_processes(now, EXPIRE_AFTER) if others_had_time else 0
        deleted = await self._store.delete_ended_runs(now - self._retention, DELETE_BATCH)
        if deleted == DELETE_BATCH:
            self._expedite()  # in another round, so that a long series of batches does not delay the heartbeat
        if expired or deleted:
            log.info("maintenance_done", processes_expired=expired, runs_deleted=deleted)
        if expired:
            self._signals.recover()
        await self._report_unserved()

    async def _report_unserved(self) -> None:
        """Log a crew once when it has unfinished runs and no process serves it."""
        unserved = await self._store.unserved()
        for crew in sorted(unserved.keys() - self._unserved):
            log.warning("crew_not_configured", crew=crew, runs=unserved[crew])
        self._unserved = frozenset(unserved)

    async def _heartbeat(self, now: float) -> None:
        """Record the heartbeat; after an expiry, drop all tracked runs and rejoin under a new name."""
        if not 0 <= now - self._last_heartbeat_at <= EXPIRE_AFTER / 2:
            self._alive_since = now
        try:
            await self._store.heartbeat(now)
        except ProcessExpired:
            for crew in self._crews.values():
                crew.tracker.forget_everything()
            log.warning("process_rejoined", process=await self._store.rejoin(now))
        self._last_heartbeat_at = now
