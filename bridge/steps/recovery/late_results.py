"""Poll executions that continue after their run was cancelled or timed out, and report how they end."""

from collections.abc import Sequence

import structlog

from bridge.core.crew.responses import StatusResponse, StopResponse
from bridge.core.runs import late_results
from bridge.core.runs.model import Decision, Run
from bridge.steps._conflicts import retry_on_conflict
from bridge.steps._run_step import CrewStep
from bridge.steps._tracker import LATE_POLL_TICK

TICK = 5.0

log = structlog.get_logger()


class PollLateResults(CrewStep[Run]):
    """Polls such executions rarely, for a day; first asks the API to stop those of cancelled runs."""

    work = "late-results"

    async def claim(self, limit: int) -> Sequence[Run]:
        """Claim ended runs of the crew whose execution is due to be polled."""
        return await self._store.claim(late_results.MAY_STILL_END, self._crews, limit, self._clock())

    async def handle(self, run: Run) -> None:
        """Poll once; before the first poll of a cancelled run, ask the API to stop its execution."""
        crew = self._crew
        assert run.kickoff_id is not None
        await crew.api.acquire()
        if late_results.should_be_stopped(run):
            outcome = await crew.api.stop(run.kickoff_id)
            stopped = outcome is StopResponse.STOPPED
            log.info("execution_stop_requested", **run.log_fields, stopped=stopped)
            if outcome is StopResponse.ENDED:
                crew.tracker.signal_late_end(run.run_id, self._clock())
            await crew.api.acquire()
        response = await crew.api.status(run.kickoff_id)
        crew.pause_if_unavailable(response, self._clock())
        written = await retry_on_conflict(self._store, run, lambda latest: self._decide(latest, response))
        if isinstance(written, Run):
            self._signals.deliver()

    def pause(self) -> float:
        """Seconds until the next claim."""
        return LATE_POLL_TICK if self._crew.tracker.awaits_late_end(self._clock()) else TICK

    def _decide(self, run: Run, response: StatusResponse) -> Decision | None:
        """Decide on the run as stored by then: the outcome of a human's answer may have been written to it."""
        if self._store.owned_elsewhere(run) or run.owner is None:
            return None  # this process has expired: the run's next owner polls again
        signalled_at = self._crew.tracker.late_end_signalled_at(run.run_id)
        return late_results.on_poll(run, response, self._crew.policy, self._clock(), signalled_at)
