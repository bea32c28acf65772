"""Explain to the HTTP API what runs wait for."""

from collections.abc import Mapping, Sequence

from bridge.core.runs.model import Run, State
from bridge.core.runs.waiting import CrewSituation, Waiting, why_waiting
from bridge.ports.lifecycle import Clock
from bridge.ports.queries import Queries, Usage
from bridge.steps._crew import Crew


class ExplainWaiting:
    """Gathers the situation of each crew once per call, however many of its runs are asked about.

    Of a crew that only other processes serve, their breakers, rate limits, and settings are unknown here.
    """

    def __init__(self, crews: Mapping[str, Crew], store: Queries, clock: Clock) -> None:
        self._crews = crews
        self._store = store
        self._clock = clock

    async def __call__(self, runs: Sequence[Run]) -> dict[str, Waiting]:
        """Return what each run waits for, by its id; no entry if nothing known delays it."""
        unfinished = [run for run in runs if not run.final]
        situations = await self._situations(unfinished)
        found = ((run.run_id, why_waiting(run, situations[run.crew])) for run in unfinished)
        return {run_id: waiting for run_id, waiting in found if waiting is not None}

    async def _situations(self, runs: Sequence[Run]) -> dict[str, CrewSituation]:
        now, names = self._clock(), {run.crew for run in runs}
        usage = await self._usage([run for run in runs if run.state is State.ACCEPTED], now)
        elsewhere = names - self._crews.keys()
        served = await self._store.crews_served() if elsewhere else ()
        return {name: self._crews[name].situation(usage, now) for name in names - elsewhere} | {
            name: CrewSituation(now, served=name in served) for name in elsewhere
        }

    async def _usage(self, accepted: Sequence[Run], now: float) -> Usage:
        """Read what limits the start of accepted runs; without any, read nothing."""
        crews = {run.crew: self._crews[run.crew].budgets for run in accepted if run.crew in self._crews}
        if not crews:
            return Usage()
        sources = {run.envelope.source for run in accepted}
        senders = {
            sender: budget for each in crews.values() for sender, budget in each.senders.items() if sender in sources
        }
        return await self._store.usage({name: each.crew for name, each in crews.items()}, senders, now)
