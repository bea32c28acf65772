"""Start executions at the crew API, each at most once."""

import asyncio
from collections.abc import Sequence

import structlog

from bridge.core.crew.payloads import kickoff_body
from bridge.core.crew.responses import InDoubt, KickoffResponse, Started
from bridge.core.errors import StoreBroken, StoreDamaged
from bridge.core.runs import kickoff_memory, state_machine
from bridge.core.runs.model import Decision, Run, State
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.journal import Journal
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.runs import Conflict, RunStore
from bridge.steps._conflicts import log_adoption, log_taken, quarantine_run, retry_on_conflict
from bridge.steps._crew import Crew, failure_reason

TICK = 1.0  # seconds between claims without a signal
JOURNAL_AFTER = 2.0  # seconds that the store may take before a kickoff id is also appended to the journal

log = structlog.get_logger()


class Kickoff:
    """Starts the runs of one crew. It marks a run `starting` immediately before its POST.

    `notify` signals this step's worker. `max_bytes`: memory of runs in progress at which no more are claimed.
    """

    kind = Quarantined.RUN

    def __init__(
        self,
        crew: Crew,
        store: RunStore,
        clock: Clock,
        notify: Notify,
        notify_poll: Notify,
        notify_deliveries: Notify,
        journal: Journal,
        max_bytes: int = kickoff_memory.MAX_BYTES,
    ) -> None:
        self.name = f"kickoff-{crew.name}"
        self._crew = crew
        self._store = store
        self._clock = clock
        self._notify = notify
        self._notify_poll = notify_poll
        self._notify_deliveries = notify_deliveries
        self._journal = journal
        self._max_bytes = max_bytes
        self._bytes_in_progress = 0

    async def claim(self, limit: int) -> Sequence[Run]:
        """Claim accepted runs within the crew's free slots, the budgets, and memory."""
        limit, left = self._crew.breaker.capacity(limit), self._max_bytes - self._bytes_in_progress
        if not limit or left <= 0:
            return []
        crew = self._crew
        claimed = await self._store.claim_accepted(
            crew.name, limit, crew.max_running, self._clock(), crew.budgets, left
        )
        self._crew.breaker.begin_trial(len(claimed))
        self._bytes_in_progress += sum(map(kickoff_memory.estimate_bytes, claimed))
        return claimed

    async def handle(self, run: Run) -> None:
        """Start the run, then release its memory."""
        size = kickoff_memory.estimate_bytes(run)
        try:
            await self._start(run)
        finally:
            self._bytes_in_progress -= size
            if size >= kickoff_memory.LARGE:
                self._notify()

    async def _start(self, run: Run) -> None:
        """Mark, POST, and store the response. The mark is durable before the first byte of the POST."""
        await self._crew.api.acquire()
        beginning = state_machine.begin(run, self._clock())
        body = kickoff_body(beginning.run, self._crew.policy, self._crew.webhooks)  # before the mark: it may raise
        starting = await self._store.apply(beginning)
        if isinstance(starting, Conflict):  # evidence of an earlier POST, a command, or the run's next owner came first
            self._crew.breaker.cancel_trial()
            self._crew.rate_limiter.return_permit()
            return
        response = await self._crew.api.kickoff(body)
        name, reason = type(response).__name__, failure_reason(response)
        log.info("kickoff_answered", run_id=run.run_id, crew=run.crew, response=name, reason=reason)
        self._update_breaker(response)
        await self._store_response(starting, response)

    def about(self, run: Run) -> dict[str, object]:
        """Identify the run."""
        return {"run_id": run.run_id, "crew": run.crew}

    async def quarantine(self, run: Run) -> None:
        """Defer the run; put it in doubt if its POST may have been sent."""
        self._crew.breaker.cancel_trial()
        await quarantine_run(run.run_id, self._crew, self._store, self._clock)

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK

    async def _store_response(self, starting: Run, response: KickoffResponse) -> None:
        """Store what the response means; if it names the execution of another run, this run is in doubt instead."""
        decision = state_machine.on_kickoff(starting, response, self._crew.policy, self._clock())
        match await self._write(decision):
            case Run() as written:
                self._track(written)
                if decision.deliveries:
                    self._notify_deliveries()
            case Conflict.EXECUTION_TAKEN:
                log_taken(starting, decision.run.kickoff_id)
                await self._store_response(starting, InDoubt("the API named the execution of another run"))
            case Conflict.STALE:
                await self._apply_late_response(starting, response)

    async def _write(self, decision: Decision) -> Run | Conflict:
        """Write the decision. A kickoff id is paid for, so if the store is slow, the journal keeps it as well."""
        if decision.run.kickoff_id is None:
            return await self._store.apply(decision)
        write = asyncio.ensure_future(self._store.apply(decision))
        done, _ = await asyncio.wait({write}, timeout=JOURNAL_AFTER)
        if not done or isinstance(write.exception(), StoreBroken | StoreDamaged):
            await self._journal.append(decision.run)
            await write
            await self._journal.drop(decision.run)
        return await write

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
                    log.info("in_doubt_resolved_by_late_response", run_id=starting.run_id, crew=starting.crew)
                self._notify_deliveries()
            case Conflict.EXECUTION_TAKEN:
                log_taken(starting, kickoff_id)
            case None:
                log.error(
                    "late_kickoff_response_discarded", run_id=starting.run_id, crew=starting.crew, kickoff_id=kickoff_id
                )

    def _update_breaker(self, response: KickoffResponse) -> None:
        if not self._crew.pause_if_unavailable(response, self._clock()) and self._crew.breaker.on_kickoff_answered():
            log.info("crew_resumed", crew=self._crew.name)

    def _track(self, run: Run) -> None:
        if run.state is State.RUNNING:
            self._crew.tracker.cache_written(run)
            self._crew.track(run, self._clock())
            self._notify_poll()
