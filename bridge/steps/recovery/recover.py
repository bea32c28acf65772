"""Take up what a process that is no more has left behind."""

from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from bridge.core import jitter
from bridge.core.errors import StoreUnavailable
from bridge.core.polling import intervals
from bridge.core.runs import state_machine
from bridge.core.runs.model import Run, State
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock
from bridge.ports.store import Store
from bridge.steps._conflicts import adopt
from bridge.steps._crew import Crew
from bridge.steps._quarantine import set_aside

TICK = 5.0

log = structlog.get_logger()


class Recover:
    """Runs without an owner: those that were being started are in doubt, those under way are followed again."""

    name = "recover"
    kind = Quarantined.RUN

    def __init__(
        self, crews: Mapping[str, Crew], store: Store, clock: Clock, notify_poll: Callable[[str], None]
    ) -> None:
        self._crews = crews
        self._store = store
        self._clock = clock
        self._notify_poll = notify_poll

    async def claim(self, room: int) -> Sequence[Run]:
        """Ownerless runs of our crews; those to be followed only as far as this process's share of the crew goes.

        Nothing is limited for crews that no other process serves: who else would take their runs up?
        """
        limited = [crew for crew in self._crews.values() if crew.share.processes > 1]
        alone = self._crews.keys() - {crew.name for crew in limited}
        claimed = list(await self._claim(alone, room, room)) if alone else []
        for crew in limited:
            left = room - len(claimed)
            room_to_track = crew.share.capacity(left, len(crew.tracker.queue))
            try:
                claimed += await self._claim({crew.name}, room_to_track, left) if left else ()
            except StoreUnavailable:
                if not claimed:
                    raise
                break  # what was claimed must not be forgotten
        return claimed

    async def _claim(self, crews: Collection[str], room_to_track: int, room: int) -> Sequence[Run]:
        states = {State.STARTING, State.RUNNING, State.WAITING_FOR_HUMAN} if room_to_track else {State.STARTING}
        claimed = await self._store.claim(states, room_to_track or room, None, crews)
        if not claimed and room_to_track:  # only then, so that none is taken and forgotten if the second claim fails
            claimed = await self._store.claim({State.RUNNING}, room_to_track, self._clock(), crews)
        return claimed

    async def handle(self, run: Run) -> None:
        """Put a run where it goes on from."""
        crew = self._crews[run.crew]
        now = self._clock()
        if run.state is State.STARTING:
            log.warning("kickoff_interrupted", run_id=run.run_id, crew=run.crew)
            await self._mark_in_doubt(crew, run, now)
            return
        deferred = run.deferral is not None
        crew.track(run, now, now if deferred else _spread(crew, run, now))
        self._notify_poll(run.crew)

    async def _mark_in_doubt(self, crew: Crew, run: Run, now: float) -> None:
        """In doubt, unless a webhook has brought its execution meanwhile."""
        doubted = await self._store.apply(state_machine.on_interrupted_kickoff(run, crew.policy, now))
        if (kickoff_id := crew.tracker.take_evidence(run.run_id)) is not None:
            await adopt(doubted, run.attempt, kickoff_id, crew.policy, self._store, self._clock)

    def about(self, run: Run) -> dict[str, object]:
        """Which run it is."""
        return {"run_id": run.run_id, "crew": run.crew}

    async def quarantine(self, run: Run) -> None:
        """Defer it; in doubt if its POST may have left."""
        crew = self._crews[run.crew]
        await set_aside(run.run_id, crew, self._store, self._clock)
        crew.tracker.forget(run.run_id)

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK


def _spread(crew: Crew, run: Run, now: float) -> float:
    """After a restart not all runs at once."""
    return jitter.spread(run.run_id, now, intervals.steady_interval(crew.policy))
