"""What a door calls when somebody wants to cancel a run, or to decide about one in doubt."""

from collections.abc import Callable, Mapping

import structlog

from bridge.core.errors import ExecutionTaken, RequestRefused, Stale
from bridge.core.model import Run, State
from bridge.core.steering import Steering, steer
from bridge.ports import Clock, Store, Wake
from bridge.steps.crew import Crew

TRIES = 5

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
        wake_others: Wake,
    ) -> None:
        self._crews = crews
        self._store = store
        self._clock = clock
        self._wake_crew = wake_crew
        self._wake_deliver = wake_deliver
        self._wake_others = wake_others

    async def __call__(self, run_id: str, wish: Steering, by: str) -> Run:
        """Decide and write; whoever wrote the run meanwhile goes first. Raises as `core.steering.steer` does."""
        for _ in range(TRIES):
            run = await self._load(run_id)
            decision = steer(run, wish, self._crews[run.crew].policy, self._clock())
            if decision is None:
                return run
            try:
                settled = await self._store.settle(decision)
            except Stale:
                continue
            except ExecutionTaken:
                raise RequestRefused("invalid_request", "is another run's execution", "kickoff_id") from None
            log.info("run_steered", run_id=run_id, wish=type(wish).__name__, by=by, state=settled.state.value)
            self._tell(settled)
            return settled
        raise Stale(f"run {run_id} is being written by others all the time")

    async def _load(self, run_id: str) -> Run:
        run = await self._store.load(run_id)
        if run is None or run.crew not in self._crews:
            raise RequestRefused("unknown_run", "no run has this id")
        return run

    def _tell(self, run: Run) -> None:
        if run.final:
            self._crews[run.crew].forget(run.run_id)
        if run.state in {State.ACCEPTED, State.CANCELLED, State.FAILED}:
            self._wake_crew(run.crew)
        self._wake_deliver()
        self._wake_others()
