"""Apply the crew's policy to runs in doubt for which no evidence arrived in time."""

from collections.abc import Sequence

import structlog

from bridge.core.runs import state_machine
from bridge.core.runs.model import Run, State
from bridge.steps._run_step import RunStep

log = structlog.get_logger()


class ResolveInDoubt(RunStep[Run]):
    """Reports that a run is in doubt, and holds, retries, or fails it by its crew's policy."""

    name = "in-doubt"

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
            self._signals.deliver()
