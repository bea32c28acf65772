"""The machine's clock is set while runs are under way (M17)."""

import asyncio

import pytest

from tests.system.acceptance.harness import ledger
from tests.system.faults.conftest import SetScene
from tests.system.faults.harness import Scene, requests

pytestmark = pytest.mark.timeout(1800)

DAY = 86_400.0
JUMPS = {
    "a day forward": [DAY],
    "a day back": [-DAY],
    "five seconds, again and again": [5.0, 10.0, 15.0, 20.0],
    "slowly away": [0.05, 0.1, 0.15, 0.2],
}
AT_ONCE = 20
LONGEST = 2.5  # seconds that a run takes
MOST_LOOKS = AT_ONCE * (LONGEST / 0.3 + 1)  # when each run is looked at as often as it may be


async def test_a_clock_that_is_set_neither_ends_nor_stalls_nor_hurries_a_run(scene: SetScene, full: bool) -> None:
    """M17: each way of setting it, with runs of some seconds under way."""
    async with scene("M17", run_time=f"uniform:2:{LONGEST}") as now:
        await now.victim.start()
        clock = 0.0
        for offsets in [*JUMPS.values()] * (5 if full else 1):
            polls = await looks_for(now, [clock + offset for offset in offsets])
            clock += offsets[-1]
            assert polls <= 2 * MOST_LOOKS, "a storm of looks"
        await now.apply()
        runs = await now.victim.all_runs()

    assert {run["state"] for run in runs} == {"succeeded"}


async def looks_for(now: Scene, offsets: list[float]) -> int:
    """Have some runs, set the clock in their midst; how often the crew was asked for a status."""
    before = int((await ledger(now.crew_url))["polls"])
    await now.publish(requests(AT_ONCE, start=now.tally.requests))
    for offset in offsets:
        await asyncio.sleep(0.5)
        await now.victim.order(clock=offset)
        now.tally.faults += 1
    await now.come_to_rest()
    return int((await ledger(now.crew_url))["polls"]) - before
