"""Apply a command to a run: cancel it, answer its question, or resolve it while it is in doubt."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from bridge.core.crew.responses import CrewUnavailable, NoResponse, NotFound, StatusResponse, Unknown
from bridge.core.crew_policy import CrewPolicy
from bridge.core.errors import CrewUnreachable, RequestRefused
from bridge.core.redaction import Redactor
from bridge.core.runs import state_machine
from bridge.core.runs.commands import Abandon, Adopt, Cancel, RunCommand, apply_command, record_command
from bridge.core.runs.model import Decision, Run, State
from bridge.core.values import kind_name
from bridge.ports.inbound import RunKey
from bridge.ports.lifecycle import Clock
from bridge.ports.runs import Conflict, RunStore
from bridge.signals import Signals
from bridge.steps._conflicts import retry_on_conflict
from bridge.steps._crew import Crew

POLL_TIMEOUT = 10.0  # seconds for a poll that an operator waits for

log = structlog.get_logger()


class ApplyCommand:
    """`ports.ApplyCommand`."""

    def __init__(
        self,
        crews: Mapping[str, Crew],
        store: RunStore,
        clock: Clock,
        signals: Signals,
        orphaned: Callable[[], CrewPolicy],
        redactor: Redactor,
    ) -> None:
        self._crews = crews
        self._store = store
        self._clock = clock
        self._signals = signals
        self._orphaned = orphaned
        self._redactor = redactor

    async def __call__(self, wanted: str | RunKey, command: RunCommand, by: str, reason: str | None = None) -> Run:
        """Decide and write, on the run as stored by then; return it. Its history names `by` and the `reason`.

        Raise what `core.runs.commands.apply_command` raises, and `StoreUnavailable` without retries, because the
        caller waits for the response.
        """
        run = await self._load(wanted)
        crew = self._crews.get(run.crew)
        policy = self._orphaned() if crew is None else crew.policy
        if crew is None:
            run = await self._without_crew(run, command)
        elif isinstance(command, Adopt):
            apply_command(run, command, policy, self._clock())  # refuses what can be refused without a poll
            command = await _verify(command, crew)
        why = None if reason is None else self._redactor.text(reason)

        def decide(latest: Run) -> Decision | None:
            now = self._clock()
            return apply_command(record_command(latest, command, by, why, now), command, policy, now)

        match await retry_on_conflict(self._store, run, decide, retry=False):
            case Run() as written:
                name, state = kind_name(type(command)), written.state.value
                log.info("run_command_applied", **run.log_fields, command=name, by=by, state=state)
                self._notify(written, command)
                return written
            case Conflict.EXECUTION_TAKEN:
                detail = "is the execution of another run; check the id"
                raise RequestRefused("invalid_request", detail, "kickoff_id")
            case None:
                return await self._load(wanted)  # a concurrent write has had the same effect, or the run is gone

    async def _load(self, wanted: str | RunKey) -> Run:
        if isinstance(wanted, RunKey):
            run = await self._store.find_key(wanted.source, wanted.crew, wanted.key)
        else:
            run = await self._store.load(wanted)
        if run is None:
            raise RequestRefused(
                "unknown_run", "no run has this id" if isinstance(wanted, str) else "no run has this idempotency key"
            )
        return run

    async def _without_crew(self, run: Run, command: RunCommand) -> Run:
        """Prepare a run whose crew is not configured: it can only be cancelled or abandoned, without an API call."""
        if not isinstance(command, Cancel | Abandon):
            detail = f"the crew {run.crew} is not configured; its runs can only be cancelled or abandoned"
            raise RequestRefused("unknown_crew", detail)
        if run.state is State.STARTING and run.owner is None:
            doubted = state_machine.on_interrupted_kickoff(run, self._orphaned(), self._clock())
            written = await self._store.apply(doubted, retry=False)
            run = await self._load(run.run_id) if isinstance(written, Conflict) else written
        if run.kickoff_id is not None and not run.final:
            log.warning("execution_not_stopped", **run.log_fields, kickoff_id=run.kickoff_id)
        return run

    def _notify(self, run: Run, command: RunCommand) -> None:
        crew = self._crews.get(run.crew)
        if crew is not None and (run.final or isinstance(command, Adopt)):
            crew.tracker.forget(run.run_id)
        elif crew is not None:
            crew.tracker.mark_changed(run)
        if run.state in {State.ACCEPTED, State.CANCELLED, State.FAILED}:
            self._signals.kickoff(run.crew)
        self._signals.deliver()
        self._signals.recover()


async def _verify(command: Adopt, crew: Crew) -> Adopt:
    """Poll the execution. Raise `RequestRefused` or `CrewUnreachable` if the API does not confirm it, unless forced."""
    try:
        async with asyncio.timeout(POLL_TIMEOUT):
            await crew.api.acquire()
            poll = asyncio.ensure_future(crew.api.status(command.kickoff_id))  # its task bounds its use of memory
            response: StatusResponse = await poll
    except TimeoutError:
        response = NoResponse("no response in time")
    if isinstance(response, NotFound) and not command.force:
        detail = "the crew API does not know this execution; check the id, or adopt it with force"
        raise RequestRefused("unknown_execution", detail, "kickoff_id")
    unclear = isinstance(response, NoResponse | CrewUnavailable | Unknown)
    if unclear and not command.force:
        raise CrewUnreachable("the crew API did not confirm this execution; retry, or adopt it with force")
    return replace(command, verified=not unclear and not isinstance(response, NotFound))
