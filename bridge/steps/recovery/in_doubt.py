"""Apply the crew's policy to runs in doubt for which no evidence arrived in time."""

from collections.abc import Mapping, Sequence

import structlog

from bridge.core.runs import state_machine
from bridge.core.runs.model import Run, State
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.runs import RunStore
from bridge.steps._crew import Crew
from bridge.steps._run_step import RunStep

log = structlog.get_logger()


class ResolveInDoubt(RunStep[Run]):
    """Reports that a run is in doubt, and holds, retries, or fails it by its crew's policy."""

    name = "in-doubt"

    def __init__(self, crews: Mapping[str, Crew], store: RunStore, clock: Clock, notify_deliveries: Notify) -> None:
        super().__init__(crews, store, clock)
        self._notify_deliveries = notify_deliveries

    async def claim(self, limit: int) -> Sequence[Run]:
        """Claim runs in doubt whose `in_doubt_after` has passed."""
        return await self._store.claim({State.IN_DOUBT}, self._crews, limit, self._clock())

    async def handle(self, run: Run) -> None:
        """Decide and write."""
        policy = self._crews[run.crew].policy
        decision = state_machine.on_evidence_overdue(run, policy, self._clock())
        log.warning("run_in_doubt", **run.log_fields, policy=policy.in_doubt.value)
        written = await self._store.apply(decision)
        if isinstance(written, Run):  # otherwise evidence or a command came first
            self._notify_deliveries()
