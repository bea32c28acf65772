"""What the steps that work on one run at a time have in common."""

from collections.abc import Mapping
from typing import ClassVar, Generic, TypeVar

from bridge.core.runs import quarantine
from bridge.core.runs.model import Decision, Run, TrackedRun
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock
from bridge.ports.runs import RunStore
from bridge.signals import Signals
from bridge.steps._conflicts import retry_on_conflict
from bridge.steps._crew import Crew

TICK = 1.0  # seconds between claims without a signal

R = TypeVar("R", Run, TrackedRun)


class RunStep(Generic[R]):
    """The rest of `ports.Step` for a step whose items are runs of `crews`; it adds `name`, `claim`, and `handle`."""

    kind = Quarantined.RUN

    def __init__(self, crews: Mapping[str, Crew], store: RunStore, clock: Clock, signals: Signals) -> None:
        self._crews = crews
        self._store = store
        self._clock = clock
        self._signals = signals

    def about(self, run: R) -> dict[str, object]:
        """Identify the run."""
        return dict(run.log_fields)

    async def quarantine(self, run: R) -> None:
        """Defer the run, unless another process owns it; put it in doubt if its POST may have been sent."""
        crew = self._crews[run.crew]

        def defer(latest: Run) -> Decision | None:
            owned_elsewhere = self._store.owned_elsewhere(latest)
            return None if owned_elsewhere else quarantine.defer(latest, crew.policy, self._clock())

        if (stored := await self._store.load(run.run_id)) is not None:
            await retry_on_conflict(self._store, stored, defer)
        crew.tracker.forget(run.run_id)

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK


class CrewStep(RunStep[R]):
    """A step for the runs of one crew; `work` is the first part of its name."""

    work: ClassVar[str]

    def __init__(self, crew: Crew, store: RunStore, clock: Clock, signals: Signals) -> None:
        super().__init__({crew.name: crew}, store, clock, signals)
        self.name = f"{self.work}-{crew.name}"
        self._crew = crew
