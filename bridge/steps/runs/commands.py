"""What a door calls when somebody wants to cancel a run, to answer its question, or to decide about one in doubt."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from bridge.core.crew.responses import CrewUnavailable, NoResponse, NotFound, StatusResponse, Unknown
from bridge.core.errors import CrewUnreachable, ExecutionTaken, RequestRefused
from bridge.core.runs import state_machine
from bridge.core.runs.commands import Abandon, Adopt, Cancel, RunCommand, apply_command
from bridge.core.runs.model import CrewPolicy, Run, State
from bridge.ports.inbound import KeyOfRun
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.store import Store
from bridge.steps._conflicts import retry_on_conflict
from bridge.steps._crew import Crew

POLL_WITHIN = 10.0  # seconds for a poll that an operator waits for

log = structlog.get_logger()


class ApplyCommand:
    """`ports.CommandRun`."""

    def __init__(
        self,
        crews: Mapping[str, Crew],
        store: Store,
        clock: Clock,
        notify_crew: Callable[[str], None],
        notify_deliveries: Notify,
        notify_recover: Notify,
        orphaned: CrewPolicy,
    ) -> None:
        self._crews = crews
        self._store = store
        self._clock = clock
        self._notify_crew = notify_crew
        self._notify_deliveries = notify_deliveries
        self._notify_recover = notify_recover
        self._orphaned = orphaned

    async def __call__(self, wanted: str | KeyOfRun, command: RunCommand, by: str) -> Run:
        """Decide and write; whoever wrote the run meanwhile goes first.

        Raises as `core.commands.apply_command` does, and `StoreUnavailable`: somebody waits to be told.
        """
        run = await self._load(wanted)
        crew = self._crews.get(run.crew)
        policy = self._orphaned if crew is None else crew.policy
        if crew is None:
            run = await self._without_crew(run, command)
        elif isinstance(command, Adopt):
            apply_command(run, command, policy, self._clock())  # refuses first what needs no question to the crew
            command = await _verified(command, crew)
        try:
            written = await retry_on_conflict(
                self._store, run, lambda latest: apply_command(latest, command, policy, self._clock()), retry=False
            )
        except ExecutionTaken:
            raise RequestRefused("invalid_request", "is another run's execution", "kickoff_id") from None
        if written is None:
            return await self._load(wanted)  # it is so already, by what others wrote, or gone
        log.info(
            "run_command_applied", run_id=run.run_id, command=type(command).__name__, by=by, state=written.state.value
        )
        self._tell(written, command)
        return written

    async def _load(self, wanted: str | KeyOfRun) -> Run:
        if isinstance(wanted, KeyOfRun):
            run = await self._store.find_key(wanted.source, wanted.crew, wanted.key)
        else:
            run = await self._store.load(wanted)
        if run is None:
            raise RequestRefused(
                "unknown_run", "no run has this id" if isinstance(wanted, str) else "no run has this key"
            )
        return run

    async def _without_crew(self, run: Run, command: RunCommand) -> Run:
        """The run of a crew that is not in the settings: it can be given up, but its API cannot be called."""
        if not isinstance(command, Cancel | Abandon):
            detail = f"the crew {run.crew} is not in the settings; its runs can only be cancelled or abandoned"
            raise RequestRefused("unknown_crew", detail)
        if run.state is State.STARTING and run.owner is None:
            run = await self._store.apply(
                state_machine.on_interrupted_kickoff(run, self._orphaned, self._clock()), retry=False
            )
        if run.kickoff_id is not None and not run.final:
            log.warning("execution_not_stopped", run_id=run.run_id, crew=run.crew, kickoff_id=run.kickoff_id)
        return run

    def _tell(self, run: Run, command: RunCommand) -> None:
        crew = self._crews.get(run.crew)
        if crew is not None and (run.final or isinstance(command, Adopt)):
            crew.tracker.forget(run.run_id)
        elif crew is not None:
            crew.tracker.mark_changed(run)
        if run.state in {State.ACCEPTED, State.CANCELLED, State.FAILED}:
            self._notify_crew(run.crew)
        self._notify_deliveries()
        self._notify_recover()


async def _verified(command: Adopt, crew: Crew) -> Adopt:
    """Poll the execution; raises `RequestRefused` or `CrewUnreachable` if the API does not know it, unless forced."""
    try:
        async with asyncio.timeout(POLL_WITHIN):
            await crew.api.acquire()
            answer: StatusResponse = await crew.api.status(command.kickoff_id)
    except TimeoutError:
        answer = NoResponse("no answer in time")
    if isinstance(answer, NotFound) and not command.force:
        detail = "the crew API does not know this execution; check the id, or adopt it with force"
        raise RequestRefused("unknown_execution", detail, "kickoff_id")
    unclear = isinstance(answer, NoResponse | CrewUnavailable | Unknown)
    if unclear and not command.force:
        raise CrewUnreachable(
            "the crew API does not say whether it knows this execution; retry, or adopt it with force"
        )
    return replace(command, verified=not unclear and not isinstance(answer, NotFound))
