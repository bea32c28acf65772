"""End runs that were not started in time."""

from collections.abc import Mapping, Sequence

import structlog

from bridge.core.runs import state_machine
from bridge.core.runs.model import Run
from bridge.ports.lifecycle import Clock
from bridge.ports.runs import RunStore
from bridge.signals import Signals
from bridge.steps._crew import Crew
from bridge.steps._run_step import RunStep

log = structlog.get_logger()


class ExpireRuns(RunStep[Run]):
    """Ends expired runs, whatever delays their start. Apart from the kickoff, which may be paused or limited."""

    name = "expire"

    def __init__(self, crews: Mapping[str, Crew], store: RunStore, clock: Clock, signals: Signals) -> None:
        super().__init__(crews, store, clock, signals)
        self._in_progress: set[str] = set()

    async def claim(self, limit: int) -> Sequence[Run]:
        """Return expired runs. They need no claim: no kickoff starts one, and the version guards the write."""
        found = await self._store.find_expired(self._crews, limit + len(self._in_progress), self._clock())
        expired = [run for run in found if run.run_id not in self._in_progress][:limit]
        self._in_progress.update(run.run_id for run in expired)
        return expired

    async def handle(self, run: Run) -> None:
        """Decide and write."""
        try:
            decision = state_machine.on_start_by_passed(run, self._crews[run.crew].policy, self._clock())
            written = decision and await self._store.apply(decision)
        finally:
            self._in_progress.discard(run.run_id)
        if isinstance(written, Run):  # otherwise a command, or evidence of an execution, came first
            log.warning("run_expired", **run.log_fields)
            self._signals.deliver()
