"""A run in doubt for which no evidence came in time."""

from collections.abc import Mapping, Sequence

import structlog

from bridge.core.runs import state_machine
from bridge.core.runs.model import Run, State
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.store import Store
from bridge.steps._crew import Crew
from bridge.steps._quarantine import set_aside

TICK = 1.0

log = structlog.get_logger()


class ResolveInDoubt:
    """Says that a run is in doubt, and does what its crew's policy wants."""

    name = "doubt"
    kind = Quarantined.RUN

    def __init__(self, crews: Mapping[str, Crew], store: Store, clock: Clock, notify_deliveries: Notify) -> None:
        self._crews = crews
        self._store = store
        self._clock = clock
        self._notify_deliveries = notify_deliveries

    async def claim(self, room: int) -> Sequence[Run]:
        """Runs in doubt whose waiting time is over."""
        return await self._store.claim({State.IN_DOUBT}, room, self._clock(), self._crews)

    async def handle(self, run: Run) -> None:
        """Decide and write."""
        policy = self._crews[run.crew].policy
        decision = state_machine.on_evidence_overdue(run, policy, self._clock())
        log.warning("run_in_doubt", run_id=run.run_id, crew=run.crew, policy=policy.in_doubt.value)
        await self._store.apply(decision)
        self._notify_deliveries()

    def about(self, run: Run) -> dict[str, object]:
        """Which run it is."""
        return {"run_id": run.run_id, "crew": run.crew}

    async def quarantine(self, run: Run) -> None:
        """Decide about it later."""
        await set_aside(run.run_id, self._crews[run.crew], self._store, self._clock)

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK
