"""Say that this process lives, give up those that are silent, forget what is old."""

import math
from collections.abc import Mapping, Sequence

import structlog

from bridge.core.errors import ProcessExpired
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.store import Store
from bridge.steps._crew import Crew
from bridge.steps.maintenance._interval import Interval

HEARTBEAT_INTERVAL = 2.0
SILENT_AFTER = 9.0  # seconds without a sign of life, more than four times what a living process takes
FORGOTTEN_AT_ONCE = 2000  # runs; nobody else can write while they are deleted

log = structlog.get_logger()


class Housekeeping:
    """The housekeeping of ownership and retention; `retention` in seconds after a run's end."""

    name = "sweep"
    kind = Quarantined.TASK

    def __init__(
        self, crews: Mapping[str, Crew], store: Store, clock: Clock, retention: float, notify_recover: Notify
    ) -> None:
        self._crews = crews
        self._store = store
        self._retention = retention
        self._notify_recover = notify_recover
        self._rounds = Interval(HEARTBEAT_INTERVAL, clock)
        self._last_heartbeat_at = -math.inf
        self._steady_since = 0.0
        self._unserved: frozenset[str] = frozenset()

    async def claim(self, room: int) -> Sequence[float]:
        """The time of one round, when that is due."""
        return self._rounds.claim(room)

    async def handle(self, now: float) -> None:
        """One round of housekeeping."""
        await self._heartbeat(now)
        expired = await self._store.expire_processes(now, SILENT_AFTER) if self._may_expire_others(now) else 0
        forgotten = await self._store.forget(now - self._retention, FORGOTTEN_AT_ONCE)
        if forgotten == FORGOTTEN_AT_ONCE:
            self._rounds.expedite()  # a round of its own, so that a long series of them does not keep us from beating
        if expired or forgotten:
            log.info("maintenance_done", processes_given_up=expired, runs_forgotten=forgotten)
        if expired:
            self._notify_recover()
        await self._look_for_unserved()

    def about(self, _: float) -> dict[str, object]:
        """Return nothing: all rounds are alike."""
        return {}

    async def quarantine(self, _: float) -> None:
        """Leave it to the next round."""

    def pause(self) -> float:
        """Seconds until the next round."""
        return self._rounds.pause()

    async def _look_for_unserved(self) -> None:
        """Log each crew once when runs of it wait and no process serves it."""
        unserved = await self._store.unserved()
        for crew in sorted(unserved.keys() - self._unserved):
            log.warning("crew_not_configured", crew=crew, runs=unserved[crew])
        self._unserved = frozenset(unserved)

    async def _heartbeat(self, now: float) -> None:
        """A process that was given up has lost everything that it followed, and begins anew under another name."""
        if not 0 <= now - self._last_heartbeat_at <= SILENT_AFTER / 2:
            self._steady_since = now
        try:
            await self._store.heartbeat(now)
        except ProcessExpired:
            for crew in self._crews.values():
                crew.tracker.forget_everything()
            log.warning("process_rejoined", process=await self._store.rejoin(now))
        self._last_heartbeat_at = now

    def _may_expire_others(self, now: float) -> bool:
        """Whoever was silent itself, because the store was away, first gives the others time to be heard."""
        return now - self._steady_since >= SILENT_AFTER
