"""Look at an execution's status until it is over. A look that changes nothing writes nothing."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog

from bridge.core.crew.responses import (
    CrewUnavailable,
    Failed,
    NoResponse,
    NotFound,
    StatusResponse,
    Succeeded,
    reported_run_time,
)
from bridge.core.errors import Stale, StoreUnavailable
from bridge.core.human_input import rules
from bridge.core.runs.model import Run, State, TrackedRun
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.store import Store
from bridge.steps._crew import Crew
from bridge.steps._quarantine import set_aside

TICK = 1.0
TOGETHER = 0.01  # seconds within which looks are made together, since waking up costs as much as a look
AGAIN_AFTER = 1.0  # seconds until the next look when the news of this one could not be written

log = structlog.get_logger()


class Poll:
    """Follows the runs of one crew by its timetable."""

    kind = Quarantined.RUN

    def __init__(
        self,
        crew: Crew,
        store: Store,
        clock: Clock,
        notify_kickoff: Notify,
        notify_deliveries: Notify,
        notify_recover: Notify,
    ) -> None:
        self.name = f"poll-{crew.name}"
        self._crew = crew
        self._store = store
        self._clock = clock
        self._notify_kickoff = notify_kickoff
        self._notify_deliveries = notify_deliveries
        self._notify_recover = notify_recover

    async def claim(self, room: int) -> Sequence[TrackedRun]:
        """The runs whose time has come, as many as may be looked at now, those first that have most likely ended."""
        crew, now = self._crew, self._clock()
        if crew.breaker.is_open:
            return []
        permits = crew.rate_limiter.acquire_for_polls(now, min(room, crew.tracker.queue.due(now)))
        return crew.tracker.take_due(now, permits, partial(crew.planner.chance_over, now=now))

    async def handle(self, tracked: TrackedRun) -> None:
        """Look once; write only what is news; note when to look again."""
        asked_at, tracker = self._clock(), self._crew.tracker
        if not tracked.polls:
            self._update_webhook_reliability(
                partial(self._crew.webhook_reliability.on_first_poll, webhook_seen=tracker.webhook_seen(tracked.run_id))
            )
        try:
            if (current := await self._up_to_date(tracked)) is not None:
                await self._look(current, asked_at)
        except (StoreUnavailable, Stale):
            tracker.resume_polling(tracked, asked_at + AGAIN_AFTER, outdated=True)  # as it was: the news is found again
            raise
        finally:
            tracker.poll_finished(tracked.run_id)

    def about(self, tracked: TrackedRun) -> dict[str, object]:
        """Which run it is."""
        return {"run_id": tracked.run_id, "crew": tracked.crew}

    async def quarantine(self, tracked: TrackedRun) -> None:
        """Defer the run: it is polled again by the process that takes it up when it is due."""
        await set_aside(tracked.run_id, self._crew, self._store, self._clock)
        self._crew.tracker.forget(tracked.run_id)

    def pause(self) -> float:
        """Seconds until the next look is due."""
        due, now = self._crew.tracker.queue.next_due(), self._clock()
        if due is None or self._crew.breaker.is_open:
            return TICK
        return max(due - now if due > now else min(self._crew.rate_limiter.seconds_until_polls(now), TICK), TOGETHER)

    async def _up_to_date(self, tracked: TrackedRun) -> TrackedRun | None:
        """The watch, with what others have written meanwhile; None if nobody need look any more.

        A look that is not made gives its turn back: it may be the one for whose answer all others wait.
        """
        if not self._crew.tracker.take_outdated(tracked.run_id):
            return tracked
        try:
            run = await self._store.load(tracked.run_id)
        except StoreUnavailable:
            self._crew.rate_limiter.return_permit()
            raise
        if run is None or run.state not in rules.TRACKED_STATES or run.kickoff_id != tracked.kickoff_id:
            self._crew.rate_limiter.return_permit()
            self._crew.tracker.forget(tracked.run_id)
            return None
        return rules.sync_with_run(tracked, run)

    async def _look(self, tracked: TrackedRun, asked_at: float) -> None:
        answer = await self._request_status(tracked, asked_at)
        self._crew.pause_if_unavailable(answer, asked_at)
        completion_signalled = self._crew.tracker.completion_signalled(tracked.run_id)
        seen, news = rules.observe_status(tracked, answer, self._crew.policy, asked_at)
        goes_on = await self._store_change(seen, answer, asked_at) if news else seen
        self._learn_run_times(tracked, answer, asked_at, completion_signalled=completion_signalled)
        if goes_on is not None:
            after = answer.after if isinstance(answer, NoResponse) else None
            self._crew.tracker.resume_polling(goes_on, self._crew.next_poll_at(goes_on, self._clock(), after))

    async def _request_status(self, tracked: TrackedRun, asked_at: float) -> StatusResponse:
        """The status, with what webhooks told where it tells nothing."""
        answer = await self._crew.api.status(tracked.kickoff_id)
        if (other := rules.alias_to_poll(tracked, answer)) is not None:
            await self._crew.api.acquire()
            answer = rules.judge_alias_status(tracked, await self._crew.api.status(other))
        return self._crew.tracker.complete(tracked, answer, asked_at)

    async def _store_change(self, seen: TrackedRun, answer: StatusResponse, asked_at: float) -> TrackedRun | None:
        """Write what is news. The watch to go on with; None if the run is not to be followed further."""
        if (known := self._crew.tracker.take_cached(seen.run_id)) is not None:
            with suppress(Stale):  # somebody else has written it since
                return await self._apply(known, seen, answer, asked_at)
        run = await self._store.load(seen.run_id)
        ended = run is None or run.state not in rules.TRACKED_STATES
        if run is None or ended or self._store.owned_elsewhere(run) or run.kickoff_id != seen.kickoff_id:
            self._crew.tracker.forget(seen.run_id)  # it has ended, has another execution, or another process tracks it
            return None
        return await self._apply(run, seen, answer, asked_at)

    async def _apply(self, run: Run, seen: TrackedRun, answer: StatusResponse, asked_at: float) -> TrackedRun | None:
        decision = rules.apply_status(run, seen, answer, self._crew.policy, asked_at)
        written = await self._store.apply(decision)
        if written.final and isinstance(answer, Succeeded) and answer.dropped:
            dropped = ", ".join(answer.dropped)
            log.error("result_incomplete", run_id=run.run_id, crew=run.crew, kickoff_id=run.kickoff_id, dropped=dropped)
        if decision.deliveries:
            self._notify_deliveries()
        if written.final:
            self._stop_tracking(written)
            return None
        if written.state is State.IN_DOUBT:
            log.warning("adopted_execution_unknown", run_id=run.run_id, crew=run.crew, kickoff_id=run.kickoff_id)
            self._crew.tracker.forget(run.run_id)
            self._notify_kickoff()
            return None
        if written.due_at is not None:
            self._notify_recover()
        self._crew.tracker.cache_written(written)
        return rules.sync_with_run(seen, written)

    def _stop_tracking(self, ended: Run) -> None:
        if ended.state is State.SUCCEEDED and ended.outcome.result is None and ended.outcome.result_json is None:
            log.warning("result_missing", run_id=ended.run_id, crew=ended.crew, kickoff_id=ended.kickoff_id)
        completion_signalled = self._crew.tracker.completion_signalled(ended.run_id)
        if ended.state is not State.SUCCEEDED and self._crew.tracker.webhook_result(ended.run_id) is not None:
            log.warning("webhook_result_discarded", run_id=ended.run_id, crew=ended.crew, state=ended.state.value)
        self._update_webhook_reliability(
            partial(self._crew.webhook_reliability.on_run_ended, completion_signalled=completion_signalled)
        )
        self._crew.tracker.forget(ended.run_id)
        log.info("run_ended", run_id=ended.run_id, crew=ended.crew, state=ended.state.value, polls=ended.polls)
        self._notify_kickoff()

    def _learn_run_times(
        self, before: TrackedRun, answer: StatusResponse, asked_at: float, *, completion_signalled: bool
    ) -> None:
        """What a look found tells about the crew's run times; `before` is what was known until then."""
        if isinstance(answer, NoResponse | CrewUnavailable | NotFound):
            return
        over = isinstance(answer, Succeeded | Failed)
        if self._crew.planner.observe_poll(before, asked_at, over=over):
            log.info("run_times_changed", crew=self._crew.name)
        if over:
            self._crew.planner.on_run_ended(
                before, asked_at, reported=reported_run_time(answer), completion_signalled=completion_signalled
            )

    def _update_webhook_reliability(self, by: Callable[[], None]) -> None:
        """Whether webhooks can be trusted may change by this, and then all that was planned with or without them."""
        before = self._crew.webhook_reliability.reliable
        by()
        if self._crew.webhook_reliability.reliable is not before:
            log.info(
                "webhook_reliability_gained" if self._crew.webhook_reliability.reliable else "webhook_reliability_lost",
                crew=self._crew.name,
            )
            self._crew.tracker.queue.reschedule(self._clock(), self._next_poll_from_last)

    def _next_poll_from_last(self, tracked: TrackedRun) -> float:
        return self._crew.next_poll_at(tracked, tracked.alive_at)
