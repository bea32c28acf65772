"""Poll executions until they end. A poll that changes nothing writes nothing."""

from collections.abc import Sequence
from functools import partial

import structlog

from bridge.core.crew.responses import (
    CrewUnavailable,
    Failed,
    NoResponse,
    NotFound,
    StatusResponse,
    Succeeded,
    TooLarge,
    reported_run_time,
)
from bridge.core.errors import StoreUnavailable
from bridge.core.human_input import rules
from bridge.core.runs import tracking
from bridge.core.runs.model import TRACKED_STATES, Run, State, TrackedRun
from bridge.core.runs.observation import Observation, apply_observation, observe
from bridge.ports.runs import Conflict
from bridge.steps._run_step import TICK, CrewStep

BATCH_WINDOW = 0.01  # seconds within which polls are made together, because a wakeup costs as much as a poll
RETRY_AFTER = 1.0  # seconds until the next poll if the change found by this one could not be written

log = structlog.get_logger()


class Poll(CrewStep[TrackedRun]):
    """Polls the tracked runs of one crew in the order of its poll queue."""

    work = "poll"

    async def claim(self, limit: int) -> Sequence[TrackedRun]:
        """Take due runs, within the permits available now; those first whose end is announced, or most likely."""
        crew, now = self._crew, self._clock()
        if crew.breaker.is_open:
            return []
        permits = crew.rate_limiter.acquire_for_polls(now, min(limit, crew.tracker.queue.due(now)))
        return crew.tracker.take_due(now, permits, partial(self._chance_ended, now=now))

    async def handle(self, tracked: TrackedRun) -> None:
        """Poll once, write any change, and schedule the next poll."""
        polled_at, tracker, reliability = self._clock(), self._crew.tracker, self._crew.webhook_reliability
        if not tracked.polls and reliability.on_first_poll(webhook_seen=tracker.known(tracked.run_id).webhook_seen):
            self._reschedule()
        try:
            if (current := await self._refresh(tracked)) is not None:
                await self._poll(current, polled_at)
        except StoreUnavailable:
            # as before this poll: the next one finds the change again
            self._resume_polling(tracked, polled_at + RETRY_AFTER, outdated=True)
            raise
        finally:
            tracker.poll_finished(tracked)

    def pause(self) -> float:
        """Seconds until the next poll is due."""
        due, now = self._crew.tracker.queue.next_due(), self._clock()
        if due is None or self._crew.breaker.is_open:
            return TICK
        return max(
            due - now if due > now else min(self._crew.rate_limiter.seconds_until_permits(now), TICK), BATCH_WINDOW
        )

    def _chance_ended(self, tracked: TrackedRun, now: float) -> float:
        announced = self._crew.tracker.awaits_end(tracked.run_id, now)
        return 1.0 if announced else self._crew.planner.chance_ended(tracked, now)

    async def _refresh(self, tracked: TrackedRun) -> TrackedRun | None:
        """Return the run including concurrent writes; None if it no longer needs to be polled.

        A poll that is not made returns its permit: after a rate limit, all other calls may wait for its response.
        """
        if not self._crew.tracker.take_outdated(tracked.run_id):
            return tracked
        try:
            run = await self._store.load(tracked.run_id)
        except StoreUnavailable:
            self._crew.rate_limiter.return_permit()
            raise
        if run is None or run.state not in TRACKED_STATES or run.kickoff_id != tracked.kickoff_id:
            self._crew.rate_limiter.return_permit()
            self._crew.tracker.forget_polled(tracked)
            return None
        return tracking.sync_with_run(tracked, run)

    async def _poll(self, tracked: TrackedRun, polled_at: float) -> None:
        response = await self._request_status(tracked, polled_at)
        self._crew.pause_if_unavailable(response, polled_at)
        if isinstance(response, TooLarge) and self._crew.tracker.mark_too_large(tracked.run_id):
            log.error(
                "status_too_large", run_id=tracked.run_id, crew=tracked.crew, kickoff_id=tracked.kickoff_id,
                max_response=self._crew.policy.max_response, ended=response.succeeded,
            )  # fmt: skip
        completion_signalled = self._crew.tracker.known(tracked.run_id).completion_signalled
        observation = observe(tracked, response, self._crew.policy, polled_at)
        still_tracked = await self._store_changes(observation) if observation.changes else observation.tracked
        self._learn_run_times(tracked, response, polled_at, completion_signalled=completion_signalled)
        if still_tracked is not None:
            after = response.after if isinstance(response, NoResponse) else None
            due = self._crew.next_poll_at(still_tracked, self._clock(), after)
            self._resume_polling(still_tracked, due)

    def _resume_polling(self, tracked: TrackedRun, due: float, *, outdated: bool = False) -> None:
        """Put a polled run back; if it is the first one due, its worker waits for a later one, and is notified."""
        if self._crew.tracker.resume_polling(tracked, due, outdated=outdated):
            self._signals.poll(self._crew.name)

    async def _request_status(self, tracked: TrackedRun, polled_at: float) -> StatusResponse:
        """Request the status, completed with what webhooks reported if it is inconclusive."""
        response = await self._crew.api.status(tracked.kickoff_id)
        if (alias := rules.alias_to_poll(tracked, response)) is not None:
            await self._crew.api.acquire()
            response = rules.judge_alias_status(tracked, await self._crew.api.status(alias))
        return self._crew.tracker.reconcile(tracked, response, polled_at)

    async def _store_changes(self, observation: Observation) -> TrackedRun | None:
        """Write what a poll revealed. Return the run to keep tracking; None if it is no longer tracked here."""
        run_id = observation.before.run_id
        run = self._crew.tracker.take_cached(run_id) or await self._store.load(run_id)
        while run is not None and self._is_still(observation.before, run):
            decision = apply_observation(run, observation, self._crew.policy)
            match await self._store.apply(decision):
                case Run() as written:
                    if decision.deliveries:
                        self._signals.deliver(decision.deliveries)
                    return self._after_write(written, observation)
                case Conflict():
                    run = await self._store.load(run_id)
        self._crew.tracker.forget_polled(observation.before)
        return None

    def _is_still(self, tracked: TrackedRun, run: Run) -> bool:
        """Return whether the stored run has neither ended nor another execution or owner than the tracked one."""
        same = run.state in TRACKED_STATES and run.kickoff_id == tracked.kickoff_id
        return same and not self._store.owned_elsewhere(run)

    def _after_write(self, written: Run, observation: Observation) -> TrackedRun | None:
        run = observation.before
        if written.final and isinstance(response := observation.response, Succeeded) and response.dropped:
            dropped = ", ".join(response.dropped)
            log.error("result_incomplete", **written.log_fields, kickoff_id=run.kickoff_id, dropped=dropped)
        if written.final:
            self._stop_tracking(written)
            return None
        if written.state is State.IN_DOUBT:
            log.warning("adopted_execution_unknown", **written.log_fields, kickoff_id=run.kickoff_id)
            self._crew.tracker.forget(run.run_id)
            self._signals.kickoff(self._crew.name)
            return None
        if written.due_at is not None:
            self._signals.recover()
        self._crew.tracker.cache_written(written)
        return tracking.sync_with_run(observation.tracked, written)

    def _stop_tracking(self, ended: Run) -> None:
        if ended.state is State.SUCCEEDED and ended.outcome.result is None and ended.outcome.result_json is None:
            log.warning("result_missing", **ended.log_fields, kickoff_id=ended.kickoff_id)
        known = self._crew.tracker.known(ended.run_id)
        if ended.state is not State.SUCCEEDED and known.webhook_result is not None:
            log.warning("webhook_result_discarded", **ended.log_fields, state=ended.state.value)
        if self._crew.webhook_reliability.on_run_ended(completion_signalled=known.completion_signalled):
            self._reschedule()
        self._crew.tracker.forget(ended.run_id)
        log.info("run_ended", **ended.log_fields, state=ended.state.value, polls=ended.polls)
        if self._store.short_of_slots(self._crew.name):
            self._signals.kickoff(self._crew.name)

    def _learn_run_times(
        self, before: TrackedRun, response: StatusResponse, polled_at: float, *, completion_signalled: bool
    ) -> None:
        """Update the crew's run times with a poll's response; `before`: the run as tracked until this poll."""
        if isinstance(response, NoResponse | CrewUnavailable | NotFound | TooLarge):
            return
        ended, reported = isinstance(response, Succeeded | Failed), reported_run_time(response)
        if self._crew.planner.observe_poll(
            before, polled_at, ended=ended, reported=reported, completion_signalled=completion_signalled
        ):
            log.info("run_time_drift_detected", crew=self._crew.name)

    def _reschedule(self) -> None:
        """Reschedule all polls, because the webhook reliability was gained or lost."""
        crew = self._crew
        gained = crew.webhook_reliability.reliable
        log.info("webhook_reliability_gained" if gained else "webhook_reliability_lost", crew=crew.name)
        crew.tracker.queue.reschedule(self._clock(), lambda tracked: crew.next_poll_at(tracked, tracked.alive_at))
