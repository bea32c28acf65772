"""What a door calls when somebody wants to cancel a run, to answer its question, or to decide about one in doubt."""

from collections.abc import Callable, Mapping

import structlog

from bridge.core.errors import ExecutionTaken, RequestRefused
from bridge.core.model import Run, State
from bridge.core.steering import Steering, steer
from bridge.ports import Clock, KeyOfRun, Store, Wake
from bridge.steps.crew import Crew
from bridge.steps.latest import settle_latest

log = structlog.get_logger()


class SteerRun:
    """`ports.Steer`."""

    def __init__(
        self,
        crews: Mapping[str, Crew],
        store: Store,
        clock: Clock,
        wake_crew: Callable[[str], None],
        wake_deliver: Wake,
        wake_take_up: Wake,
    ) -> None:
        self._crews = crews
        self._store = store
        self._clock = clock
        self._wake_crew = wake_crew
        self._wake_deliver = wake_deliver
        self._wake_take_up = wake_take_up

    async def __call__(self, wanted: str | KeyOfRun, wish: Steering, by: str) -> Run:
        """Decide and write; whoever wrote the run meanwhile goes first.

        Raises as `core.steering.steer` does, and `StoreUnavailable`: somebody waits to be told.
        """
        run = await self._load(wanted)
        policy = self._crews[run.crew].policy
        try:
            settled = await settle_latest(
                self._store, run, lambda latest: steer(latest, wish, policy, self._clock()), patient=False
            )
        except ExecutionTaken:
            raise RequestRefused("invalid_request", "is another run's execution", "kickoff_id") from None
        if settled is None:
            return await self._load(wanted)  # it is so already, by what others wrote, or gone
        log.info("run_steered", run_id=run.run_id, wish=type(wish).__name__, by=by, state=settled.state.value)
        self._tell(settled)
        return settled

    async def _load(self, wanted: str | KeyOfRun) -> Run:
        if isinstance(wanted, KeyOfRun):
            run = await self._store.find_key(wanted.source, wanted.crew, wanted.key)
        else:
            run = await self._store.load(wanted)
        if run is None or run.crew not in self._crews:
            raise RequestRefused(
                "unknown_run", "no run has this id" if isinstance(wanted, str) else "no run has this key"
            )
        return run

    def _tell(self, run: Run) -> None:
        crew = self._crews[run.crew]
        if run.final:
            crew.following.forget(run.run_id)
        else:
            crew.following.look_again(run)
        if run.state in {State.ACCEPTED, State.CANCELLED, State.FAILED}:
            self._wake_crew(run.crew)
        self._wake_deliver()
        self._wake_take_up()
