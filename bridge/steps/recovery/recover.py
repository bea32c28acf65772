"""Take over runs without an owner after their process died, expired, or released them."""

from collections.abc import Collection, Sequence

import structlog

from bridge.core.errors import StoreUnavailable
from bridge.core.runs import state_machine
from bridge.core.runs.model import Run, State
from bridge.steps._run_step import RunStep

TICK = 5.0

log = structlog.get_logger()


class Recover(RunStep[Run]):
    """Puts interrupted kickoffs in doubt, and tracks runs in progress again."""

    name = "recover"

    async def claim(self, limit: int) -> Sequence[Run]:
        """Claim ownerless runs of the configured crews, tracking no more than this process's fair share of each crew.

        Crews that no other process serves have no such limit, because only this process can track their runs.
        """
        shared = [crew for crew in self._crews.values() if crew.share.processes > 1]
        unshared = self._crews.keys() - {crew.name for crew in shared}
        claimed = list(await self._claim(unshared, limit, limit)) if unshared else []
        for crew in shared:
            left = limit - len(claimed)
            tracking_limit = crew.share.capacity(left, len(crew.tracker.queue))
            try:
                claimed += await self._claim({crew.name}, tracking_limit, left) if left else ()
            except StoreUnavailable:
                if not claimed:
                    raise
                break  # keep what has been claimed
        return claimed

    async def _claim(self, crews: Collection[str], tracking_limit: int, limit: int) -> Sequence[Run]:
        states = {State.STARTING, State.RUNNING, State.WAITING_FOR_HUMAN} if tracking_limit else {State.STARTING}
        claimed = await self._store.claim(states, crews, tracking_limit or limit)
        if not claimed and tracking_limit:  # only then: if the second claim fails, no claimed run is lost
            claimed = await self._store.claim({State.RUNNING}, crews, tracking_limit, self._clock())
        return claimed

    async def handle(self, run: Run) -> None:
        """Put an interrupted kickoff in doubt; track any other run."""
        crew = self._crews[run.crew]
        now = self._clock()
        if run.state is State.STARTING:
            log.warning("kickoff_interrupted", **run.log_fields)
            await self._store.apply(state_machine.on_interrupted_kickoff(run, crew.policy, now))
            return  # after a conflict, too: the run's next owner decides
        at_once = run.deferral is not None or run.unverified
        crew.track(run, now, now if at_once else crew.planner.spread_first_poll(run.run_id, now))
        self._signals.poll(run.crew)

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK
