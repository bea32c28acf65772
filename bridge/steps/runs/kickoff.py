"""Start executions at the crew API, each at most once."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from bridge.core.crew.payloads import kickoff_body
from bridge.core.crew.responses import InDoubt, KickoffResponse, Refused, Started, failure_reason
from bridge.core.errors import StoreBroken, StoreDamaged
from bridge.core.runs import kickoff_memory, quarantine, state_machine
from bridge.core.runs.model import Decision, Run, State
from bridge.core.values import kind_name
from bridge.ports.journal import Journal
from bridge.ports.lifecycle import Clock
from bridge.ports.runs import Conflict, RunStore
from bridge.ports.tracing import NOT_TRACED, Tracing
from bridge.signals import Signals
from bridge.steps._conflicts import log_adoption, log_taken, retry_on_conflict
from bridge.steps._crew import Crew
from bridge.steps._run_step import TICK, CrewStep

MAX_IN_PROGRESS = 64  # per crew; after a crash, at most so many runs are in doubt
MIN_PAUSE = 0.01  # seconds between claims while the rate limits them, so that one claim starts several runs
JOURNAL_AFTER = 2.0  # seconds that the store may take before a kickoff id is also appended to the journal

log = structlog.get_logger()


class Kickoff(CrewStep[Run]):
    """Starts the runs of one crew. A claim marks them `starting`, as many as can be POSTed at once.

    `max_bytes` returns how much memory runs in progress may use before no more are claimed.
    """

    work = "kickoff"

    def __init__(
        self,
        crew: Crew,
        store: RunStore,
        clock: Clock,
        signals: Signals,
        journal: Journal,
        max_bytes: Callable[[], int],
        tracing: Tracing = NOT_TRACED,
    ) -> None:
        super().__init__(crew, store, clock, signals)
        self._journal = journal
        self._max_bytes = max_bytes
        self._tracing = tracing
        self._sizes: dict[str, int] = {}
        """The memory of each run in progress."""
        self._not_sent: set[str] = set()
        """Claimed runs of whose POST no byte has been sent."""

    async def claim(self, limit: int) -> Sequence[Run]:
        """Claim accepted runs within the rate, the crew's free slots, the budgets, and memory."""
        crew, now, left = self._crew, self._clock(), self._max_bytes() - sum(self._sizes.values())
        free = min(limit, self._max_in_progress() - len(self._sizes))
        wanted = crew.breaker.capacity(free) if left > 0 and free > 0 else 0
        permits = crew.rate_limiter.acquire_for_kickoffs(now, wanted)
        if not permits:
            return []
        claimed: Sequence[Run] = []
        try:
            claimed = await self._store.claim_accepted(crew.name, permits, crew.max_running, now, crew.budgets, left)
        finally:
            if crew.rate_limiter.return_kickoff_permits(permits - len(claimed)):
                self._signals.poll(self._crew.name)
        crew.breaker.begin_trial(len(claimed))
        self._not_sent.update(run.run_id for run in claimed)
        self._sizes |= {run.run_id: kickoff_memory.estimate_bytes(run) for run in claimed}
        return claimed

    async def handle(self, run: Run) -> None:
        """Start the run, then release its memory."""
        try:
            await self._start(run)
        finally:
            was_full = len(self._sizes) >= self._max_in_progress()
            if self._sizes.pop(run.run_id, 0) >= kickoff_memory.LARGE or was_full:
                self._signals.kickoff(self._crew.name)

    def _max_in_progress(self) -> int:
        """Return how many kickoffs may be in progress: at most one second of permits, since a stop waits for all."""
        return max(1, min(MAX_IN_PROGRESS, int(self._crew.rate_limiter.full_rate)))

    async def _start(self, run: Run) -> None:
        """POST, and store the response. Until the first byte may be sent, an exception costs no execution."""
        traceparent = self._tracing.kickoff_context(run)
        body = kickoff_body(run, self._crew.policy, self._crew.webhooks, traceparent)
        self._not_sent.discard(run.run_id)
        response = await self._crew.api.kickoff(body, traceparent)
        self._tracing.answered(run, response, self._clock())
        name, reason = kind_name(type(response)), failure_reason(response)
        kickoff_id = response.kickoff_id if isinstance(response, Started) else None
        log.info("kickoff_answered", **run.log_fields, response=name, kickoff_id=kickoff_id, reason=reason)
        if not self._crew.pause_if_unavailable(response, self._clock()) and self._crew.breaker.on_kickoff_answered():
            log.info("crew_resumed", crew=self._crew.name)
        if isinstance(response, Refused):
            self._crew.inputs.forget()  # a deploy may have changed them
        await self._store_response(run, response)
        if self._crew.webhooks is not None:
            self._signals.inbox()  # webhooks that arrived during the POST wait for its response

    async def quarantine(self, run: Run) -> None:
        """Defer the run; put it in doubt if its POST may have been sent."""
        self._crew.breaker.cancel_trial()
        if run.run_id in self._not_sent:
            await self._defer_unsent(run)
        else:
            await super().quarantine(run)

    def pause(self) -> float:
        """Seconds until the next claim."""
        limiter = self._crew.rate_limiter
        if not limiter.kickoffs_waiting:
            return TICK
        return min(max(limiter.seconds_until_permits(self._clock()), MIN_PAUSE), TICK)

    async def _defer_unsent(self, run: Run) -> None:
        """Defer a run whose body could not be built; the attempt does not count."""
        self._not_sent.discard(run.run_id)
        self._crew.rate_limiter.return_permit()
        deferred = quarantine.defer(state_machine.undo_begin(run), self._crew.policy, self._clock())
        assert deferred is not None  # the run is accepted
        await self._store.apply(deferred)

    async def _store_response(self, starting: Run, response: KickoffResponse) -> None:
        """Store what the response means; if it names the execution of another run, this run is in doubt instead."""
        decision = state_machine.on_kickoff(starting, response, self._crew.policy, self._clock())
        match await self._write(decision):
            case Run() as written:
                if written.state is State.RUNNING:
                    self._crew.tracker.cache_written(written)
                    self._crew.track(written, self._clock())
                    self._signals.poll(self._crew.name)
                if decision.deliveries:
                    self._signals.deliver(decision.deliveries)
            case Conflict.EXECUTION_TAKEN:
                log_taken(starting, decision.run.kickoff_id)
                await self._store_response(starting, InDoubt("the API named the execution of another run"))
            case Conflict.STALE:
                await self._apply_late_response(starting, response)

    async def _write(self, decision: Decision) -> Run | Conflict:
        """Write the decision. A kickoff id is paid for, so if the store is slow, the journal keeps it as well."""
        if decision.run.kickoff_id is None:
            return await self._store.apply(decision)
        append = partial(self._journal.append, decision.run)
        appending: asyncio.Task[None] | None = None

        def append_now() -> None:
            nonlocal appending
            appending = asyncio.create_task(append())

        slow = asyncio.get_running_loop().call_later(JOURNAL_AFTER, append_now)
        try:
            written = await self._store.apply(decision)
        except (StoreBroken, StoreDamaged):
            await (appending or append())
            raise
        finally:
            slow.cancel()
        if appending is not None:
            await appending
            await self._journal.drop(decision.run)
        return written

    async def _apply_late_response(self, starting: Run, response: KickoffResponse) -> None:
        """Apply a response whose run another process has taken over during the POST: it may still resolve the doubt."""
        kickoff_id = response.kickoff_id if isinstance(response, Started) else None

        def decide(latest: Run) -> Decision | None:
            return state_machine.on_late_response(latest, starting.attempt, response, self._crew.policy, self._clock())

        run = await self._store.load(starting.run_id)
        match run and await retry_on_conflict(self._store, run, decide):
            case Run() as written:
                if kickoff_id is not None and written.final:
                    log_adoption(written)
                else:
                    log.info("run_resolved_by_late_response", **starting.log_fields)
                self._signals.deliver()
            case Conflict.EXECUTION_TAKEN:
                log_taken(starting, kickoff_id)
            case None:
                log.error("late_kickoff_response_discarded", **starting.log_fields, kickoff_id=kickoff_id)
