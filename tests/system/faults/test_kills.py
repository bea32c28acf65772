"""Kills: at every named point, at random moments, and signals under load (M1, M2, M16)."""

import asyncio
import os
from typing import Any

import pytest

from tests.system.acceptance.harness import eventually
from tests.system.faults.conftest import OpenScenario
from tests.system.faults.daemon import POINTS
from tests.system.faults.harness import Scenario, requests

pytestmark = pytest.mark.timeout(3600)

AT_THE_START = {"K18"}  # a schema is created once
REPEATS = 25
LEAVES_IN_DOUBT = {"K06", "K07", "K08"}
MAY_LEAVE_IN_DOUBT = {"K03"}  # the ack may be in flight together with the POST
ORDER = [*sorted(AT_THE_START), *sorted(POINTS.keys() - AT_THE_START)]
STORIES = (
    [[point] * (1 if point in AT_THE_START else REPEATS) for point in ORDER]
    if os.environ.get("FAULTS") == "full"
    else [ORDER[start : start + 5] for start in range(0, len(ORDER), 5)]
)


@pytest.mark.parametrize("points", STORIES, ids="-".join)
async def test_a_kill_at_any_point_loses_nothing_and_pays_nothing_twice(
    open_scenario: OpenScenario, points: list[str]
) -> None:
    """M1: the process kills itself at the point, with one request in progress, and is started again."""
    async with open_scenario(
        "M1 " + " ".join(dict.fromkeys(points)), kickoff_delay=0.3 if "K07" in points else 0.0
    ) as scenario:
        if points[0] not in AT_THE_START:
            await scenario.daemon.start()
        for number, point in enumerate(points):
            await die_at(scenario, point, requests(1, start=number))
            scenario.tally.faults += 1
            await scenario.recover()
            await scenario.come_to_rest()
        await scenario.apply()

        assert await scenario.dead_letters() >= points.count("K17"), "an unreadable message must be kept"

    certain = sum(point in LEAVES_IN_DOUBT for point in points)
    assert certain <= scenario.tally.in_doubt <= certain + sum(point in MAY_LEAVE_IN_DOUBT for point in points), (
        scenario.tally
    )


async def die_at(scenario: Scenario, point: str, requested: list[dict[str, Any]]) -> None:
    """Bring the process to the point, and check that it dies there."""
    match point:
        case "K04":
            await scenario.daemon.die_at(point)
            scenario.submit(requested)
        case "K17":
            await scenario.daemon.die_at(point)
            await scenario.publish_nonsense()
            scenario.submit(requested)
        case "K18":
            scenario.submit(requested)
            await scenario.daemon.start(point, until_ready=False)
        case "K19":
            await kill_with_a_run_under_way(scenario, requested)
            await scenario.daemon.start(point, until_ready=False)
        case "K20":
            await scenario.daemon.die_at(point)
            await scenario.publish(requested)
            await eventually(scenario.all_started, "the run is running")
            scenario.daemon.ask_to_stop()
        case _:
            await scenario.daemon.die_at(point)
            await scenario.publish(requested)
    await scenario.daemon.died()


async def kill_with_a_run_under_way(scenario: Scenario, requested: list[dict[str, Any]]) -> None:
    """Another run is tried if this one ended before the kill: then nothing would be left to recover."""
    await scenario.publish(requested)
    while True:
        await eventually(scenario.all_started, "the run is running")
        await scenario.daemon.kill()
        if await scenario.one_under_way():
            return
        await scenario.daemon.start()
        await scenario.publish_one()


@pytest.mark.parametrize("part", range(4))
async def test_kills_at_random_moments_under_load(open_scenario: OpenScenario, part: int, full: bool) -> None:
    """M2: 200 kills during 10,000 requests, in four parts."""
    if part and not full:
        pytest.skip("one part is enough")
    kills, count = (50, 2500) if full else (4, 200)
    async with open_scenario(f"M2 part {part + 1}") as scenario:
        await scenario.daemon.start()
        producing = asyncio.create_task(scenario.publish(requests(count)))
        for _ in range(kills):
            await asyncio.sleep(scenario.rng.uniform(0.3, 3.0 if full else 1.0))
            await scenario.daemon.kill()
            scenario.tally.faults += 1
            await scenario.recover()
        await producing
        await scenario.apply()

    assert scenario.tally.in_doubt <= kills * 64, "no more than could be in flight at each kill"


async def test_sigterm_at_random_moments_ends_in_order(open_scenario: OpenScenario, full: bool) -> None:
    """M16: every exit code is 0 and no part is aborted at the end of the grace period, so nothing is in doubt."""
    stops, count = (100, 3000) if full else (3, 150)
    async with open_scenario("M16", kickoff_delay=0.2) as scenario:
        await scenario.daemon.start()
        producing = asyncio.create_task(scenario.publish(requests(count)))
        for _ in range(stops):
            await asyncio.sleep(scenario.rng.uniform(0.05, 1.5))
            assert await scenario.daemon.terminate() == 0, scenario.daemon.log_tail()
            scenario.tally.faults += 1
            await scenario.recover()
        await producing
        await scenario.apply()

    assert scenario.daemon.log_events()["part_cancelled"] == 0
    assert scenario.tally.in_doubt == 0
