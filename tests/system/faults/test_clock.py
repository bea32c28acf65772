"""The machine's clock is set while runs are running (M17)."""

import asyncio

import pytest

from tests.system.acceptance.harness import ledger
from tests.system.faults.conftest import OpenScenario
from tests.system.faults.harness import Scenario, requests

pytestmark = pytest.mark.timeout(1800)

DAY = 86_400.0
JUMPS = {
    "a day forward": [DAY],
    "a day back": [-DAY],
    "five seconds, again and again": [5.0, 10.0, 15.0, 20.0],
    "slowly away": [0.05, 0.1, 0.15, 0.2],
}
AT_ONCE = 20
LONGEST = 2.5  # duration of a run in seconds
MOST_POLLS = AT_ONCE * (LONGEST / 0.3 + 1)  # if each run is polled at the minimum interval


async def test_setting_the_clock_neither_ends_nor_delays_nor_expedites_a_run(
    open_scenario: OpenScenario, full: bool
) -> None:
    """M17: each way to set it, with running runs of some seconds."""
    async with open_scenario("M17", run_time=f"uniform:2:{LONGEST}") as scenario:
        await scenario.daemon.start()
        clock = 0.0
        for offsets in [*JUMPS.values()] * (5 if full else 1):
            polls = await polls_for(scenario, [clock + offset for offset in offsets])
            clock += offsets[-1]
            assert polls <= 2 * MOST_POLLS, "too many polls"
        await scenario.apply()
        runs = await scenario.daemon.all_runs()

    assert {run["state"] for run in runs} == {"succeeded"}


async def polls_for(scenario: Scenario, offsets: list[float]) -> int:
    """Start some runs, set the clock during them, and return the number of polls."""
    before = int((await ledger(scenario.crew_url))["polls"])
    await scenario.publish(requests(AT_ONCE, start=scenario.tally.requests))
    for offset in offsets:
        await asyncio.sleep(0.5)
        await scenario.daemon.order(clock=offset)
        scenario.tally.faults += 1
    await scenario.come_to_rest()
    return int((await ledger(scenario.crew_url))["polls"]) - before
