"""The worker polls every run at the intervals of its crew, whatever else is tracked; in virtual time."""

import asyncio
from dataclasses import dataclass
from itertools import pairwise

import pytest

from bridge.core.crew.responses import StatusResponse
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs.model import TrackedRun
from bridge.worker import Worker
from tests.component.steps.conftest import Bench
from tests.fakes import FakeCrewApi, raise_fault
from tests.simulation.virtual_time import run_virtually

RESPONSE_TIME = 0.02  # seconds


@dataclass
class SlowCrewApi(FakeCrewApi):
    """Takes its time for each response, during which the run is not in the queue."""

    async def status(self, kickoff_id: str) -> StatusResponse:
        await asyncio.sleep(RESPONSE_TIME)
        return await super().status(kickoff_id)


async def polled_at(interval: float, *others: float) -> list[float]:
    """When a run is polled within fifty intervals, beside others whose next poll is due at these times."""
    clock, times = asyncio.get_running_loop().time, list[float]()
    policy = CrewPolicy(poll_min_interval=interval, poll_max_interval=interval)
    bench = Bench(None, policy, clock=clock, api=SlowCrewApi())
    for number, due in enumerate([0.0, *others]):
        run = TrackedRun(f"run-{number}", "research", f"k-{number}", 1e9, 0.0, started_at=0.0, seen_alive=True)
        bench.crew.tracker.track(run, due)
    step = bench.poll
    worker = Worker(step, 9, bench.signals[step.name], raise_fault)
    working = asyncio.create_task(worker.run())
    while clock() < 50 * interval:
        before = len(bench.api.polls)
        await asyncio.sleep(interval / 20)
        times += [clock()] * bench.api.polls[before:].count("k-0")
    worker.stop()
    await working
    return times


@pytest.mark.parametrize("others", [(), (1e6,)])
@pytest.mark.parametrize("interval", [0.1, 0.3, 5.0])
def test_a_run_is_polled_at_its_interval(interval: float, others: tuple[float, ...]):
    times = run_virtually(polled_at(interval, *others))
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert len(pauses) >= 30
    assert max(pauses) <= 1.2 * interval + RESPONSE_TIME
