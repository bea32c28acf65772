"""The execution of a run that was cancelled or has timed out may still end; its producer may want to know."""

from collections.abc import Sequence

import structlog

from bridge.core.crew.responses import StatusResponse
from bridge.core.runs import state_machine
from bridge.core.runs.model import Decision, Run
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.store import Store
from bridge.steps._conflicts import retry_on_conflict
from bridge.steps._crew import Crew
from bridge.steps._quarantine import set_aside

TICK = 5.0

log = structlog.get_logger()


class PollLateResults:
    """Looks at such executions rarely, for a day; asks the API to stop a cancelled one first, where it can."""

    kind = Quarantined.RUN

    def __init__(self, crew: Crew, store: Store, clock: Clock, notify_deliveries: Notify) -> None:
        self.name = f"late-{crew.name}"
        self._crew = crew
        self._store = store
        self._clock = clock
        self._notify_deliveries = notify_deliveries

    async def claim(self, room: int) -> Sequence[Run]:
        """Runs of the crew whose execution is to be looked at once more."""
        return await self._store.claim(state_machine.MAY_STILL_END, room, self._clock(), {self._crew.name})

    async def handle(self, run: Run) -> None:
        """One look, and before the first one a try to stop what nobody waits for any more."""
        crew = self._crew
        assert run.kickoff_id is not None
        await crew.api.acquire()
        if state_machine.should_be_stopped(run):
            log.info(
                "execution_stop_requested",
                run_id=run.run_id,
                crew=run.crew,
                stopped=await crew.api.stop(run.kickoff_id),
            )
            await crew.api.acquire()
        answer = await crew.api.status(run.kickoff_id)
        crew.pause_if_unavailable(answer, self._clock())
        if await retry_on_conflict(self._store, run, lambda latest: self._decide(latest, answer)) is not None:
            self._notify_deliveries()

    def about(self, run: Run) -> dict[str, object]:
        """Which run it is."""
        return {"run_id": run.run_id, "crew": run.crew}

    async def quarantine(self, run: Run) -> None:
        """Look at it later."""
        await set_aside(run.run_id, self._crew, self._store, self._clock)

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK

    def _decide(self, run: Run, answer: StatusResponse) -> Decision | None:
        """On the run as it is by then: what became of a human's answer may be noted of one that is over."""
        if self._store.owned_elsewhere(run) or run.owner is None:
            return None  # this process was given up meanwhile: another look tells it, or has done so
        return state_machine.on_late_poll(run, answer, self._crew.policy, self._clock())
