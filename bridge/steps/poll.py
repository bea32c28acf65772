"""Step 3: look at an execution's status until it is over. A look that changes nothing writes nothing."""

from collections.abc import Callable, Sequence
from functools import partial

import structlog

from bridge.core import lifecycle, schedule
from bridge.core.answers import CrewUnavailable, NoAnswer, StatusAnswer
from bridge.core.errors import Stale, StoreUnavailable
from bridge.core.hints import believe
from bridge.core.model import State, Watch
from bridge.ports import Clock, Store, Wake
from bridge.steps.crew import Crew

TICK = 1.0
AGAIN_AFTER = 1.0  # seconds until the next look when the news of this one could not be written

log = structlog.get_logger()


class Poll:
    """Follows the runs of one crew by its timetable."""

    def __init__(self, crew: Crew, store: Store, clock: Clock, wake_kickoff: Wake, wake_deliver: Wake) -> None:
        self.name = f"poll-{crew.name}"
        self._crew = crew
        self._store = store
        self._clock = clock
        self._wake_kickoff = wake_kickoff
        self._wake_deliver = wake_deliver

    async def claim(self, room: int) -> Sequence[Watch]:
        """The runs whose time has come."""
        return [] if self._crew.gate.closed else self._crew.timetable.take_due(self._clock(), room)

    async def handle(self, watch: Watch) -> None:
        """Look once; write only what is news; note when to look again."""
        await self._crew.api.turn()
        asked_at = self._clock()
        if not watch.polls:
            self._learn(partial(self._crew.trust.first_look, heard=watch.run_id in self._crew.heard))
        answer = believe(await self._crew.api.status(watch.kickoff_id), self._crew.announced.get(watch.run_id))
        if isinstance(answer, CrewUnavailable) and self._crew.gate.close(answer.reason, asked_at):
            log.error("crew_paused", crew=self._crew.name, reason=answer.reason)
        seen, news = lifecycle.look(watch, answer, self._crew.policy, asked_at)
        try:
            following = await self._write_down(seen, answer, asked_at) if news else True
        except (StoreUnavailable, Stale):
            self._crew.timetable.put(watch, asked_at + AGAIN_AFTER)  # unchanged: the next look finds the news again
            raise
        if following:
            after = answer.after if isinstance(answer, NoAnswer) else None
            self._crew.timetable.put(seen, self._next_look(seen, after))

    def pause(self) -> float:
        """Seconds until the next look is due."""
        due = self._crew.timetable.next_due()
        return TICK if due is None or self._crew.gate.closed else due - self._clock()

    def _next_look(self, seen: Watch, after: float | None) -> float:
        return schedule.next_look(seen, self._crew.policy, self._clock(), after, stretched=self._stretched(seen))

    def _stretched(self, watch: Watch) -> bool:
        """Whether a webhook will most likely tell us; one that has done so was too early, and will not come again."""
        return self._crew.trust.earned and watch.run_id not in self._crew.announced

    def _learn(self, lesson: Callable[[], None]) -> None:
        """Whether webhooks can be trusted may change by this, and then all that was planned by it."""
        before = self._crew.trust.earned
        lesson()
        if self._crew.trust.earned is not before:
            log.info("webhooks_trusted" if self._crew.trust.earned else "webhooks_distrusted", crew=self._crew.name)
            self._crew.timetable.replan(self._clock(), self._as_from_its_last_look)

    def _as_from_its_last_look(self, watch: Watch) -> float:
        stretched = self._stretched(watch)
        return schedule.next_look(watch, self._crew.policy, watch.alive_at, stretched=stretched)

    async def _write_down(self, seen: Watch, answer: StatusAnswer, asked_at: float) -> bool:
        """Whether the run is to be followed further."""
        run = await self._store.load(seen.run_id)
        if run is None or run.state is not State.RUNNING or self._store.owned_elsewhere(run):
            return False  # somebody ended it meanwhile, or follows it in our place
        decision = lifecycle.on_status(run, seen, answer, self._crew.policy, asked_at)
        settled = await self._store.settle(decision)
        if decision.deliveries:
            self._wake_deliver()
        if settled.final:
            self._learn(partial(self._crew.trust.ended, announced=run.run_id in self._crew.announced))
            self._crew.forget(run.run_id)
            log.info("run_ended", run_id=run.run_id, crew=run.crew, state=settled.state.value, polls=settled.polls)
            self._wake_kickoff()
        return not settled.final
