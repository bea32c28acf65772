"""Apply the crew's policy to runs in doubt for which no evidence arrived in time."""

from collections.abc import Mapping, Sequence

import structlog

from bridge.core.runs import state_machine
from bridge.core.runs.model import Run, State
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.runs import RunStore
from bridge.steps._conflicts import quarantine_run
from bridge.steps._crew import Crew

TICK = 1.0

log = structlog.get_logger()


class ResolveInDoubt:
    """Reports that a run is in doubt, and holds, retries, or fails it by its crew's policy."""

    name = "in-doubt"
    kind = Quarantined.RUN

    def __init__(self, crews: Mapping[str, Crew], store: RunStore, clock: Clock, notify_deliveries: Notify) -> None:
        self._crews = crews
        self._store = store
        self._clock = clock
        self._notify_deliveries = notify_deliveries

    async def claim(self, limit: int) -> Sequence[Run]:
        """Claim runs in doubt whose `in_doubt_after` has passed."""
        return await self._store.claim({State.IN_DOUBT}, limit, self._clock(), self._crews)

    async def handle(self, run: Run) -> None:
        """Decide and write."""
        policy = self._crews[run.crew].policy
        decision = state_machine.on_evidence_overdue(run, policy, self._clock())
        log.warning("run_in_doubt", run_id=run.run_id, crew=run.crew, policy=policy.in_doubt.value)
        written = await self._store.apply(decision)
        if isinstance(written, Run):  # otherwise evidence or a command came first
            self._notify_deliveries()

    def about(self, run: Run) -> dict[str, object]:
        """Identify the run."""
        return {"run_id": run.run_id, "crew": run.crew}

    async def quarantine(self, run: Run) -> None:
        """Defer the run; its policy applies later."""
        await quarantine_run(run.run_id, self._crews[run.crew], self._store, self._clock)

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK
