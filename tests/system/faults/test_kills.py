"""Kills: at every named point, at random moments, and signals under load (M1, M2, M16)."""

import asyncio
import os
from typing import Any

import pytest

from tests.system.acceptance.harness import eventually
from tests.system.faults.conftest import SetScene
from tests.system.faults.daemon import POINTS
from tests.system.faults.harness import Scene, requests

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
async def test_a_kill_at_any_point_loses_nothing_and_pays_nothing_twice(scene: SetScene, points: list[str]) -> None:
    """M1: the process kills itself at the point, with one request in progress, and is started again."""
    async with scene("M1 " + " ".join(dict.fromkeys(points)), kickoff_delay=0.3 if "K07" in points else 0.0) as now:
        if points[0] not in AT_THE_START:
            await now.victim.start()
        for number, point in enumerate(points):
            await die_at(now, point, requests(1, start=number))
            now.tally.faults += 1
            await now.recover()
            await now.come_to_rest()
        await now.apply()

        assert await now.dead_letters() >= points.count("K17"), "an unreadable message must be kept"

    certain = sum(point in LEAVES_IN_DOUBT for point in points)
    assert certain <= now.tally.in_doubt <= certain + sum(point in MAY_LEAVE_IN_DOUBT for point in points), now.tally


async def die_at(now: Scene, point: str, requested: list[dict[str, Any]]) -> None:
    """Bring the process to the point, and check that it dies there."""
    match point:
        case "K04":
            await now.victim.die_at(point)
            now.submit(requested)
        case "K17":
            await now.victim.die_at(point)
            await now.publish_nonsense()
            now.submit(requested)
        case "K18":
            now.submit(requested)
            await now.victim.start(point, until_ready=False)
        case "K19":
            await kill_with_a_run_under_way(now, requested)
            await now.victim.start(point, until_ready=False)
        case "K20":
            await now.victim.die_at(point)
            await now.publish(requested)
            await eventually(now.all_started, "the run is running")
            now.victim.ask_to_stop()
        case _:
            await now.victim.die_at(point)
            await now.publish(requested)
    await now.victim.died()


async def kill_with_a_run_under_way(now: Scene, requested: list[dict[str, Any]]) -> None:
    """Another run is tried if this one ended before the kill: then nothing would be left to recover."""
    await now.publish(requested)
    while True:
        await eventually(now.all_started, "the run is running")
        await now.victim.kill()
        if await now.one_under_way():
            return
        await now.victim.start()
        await now.publish_one()


@pytest.mark.parametrize("part", range(4))
async def test_kills_at_random_moments_under_load(scene: SetScene, part: int, full: bool) -> None:
    """M2: 200 kills during 10,000 requests, in four parts."""
    if part and not full:
        pytest.skip("one part is enough")
    kills, count = (50, 2500) if full else (6, 300)
    async with scene(f"M2 part {part + 1}") as now:
        await now.victim.start()
        producing = asyncio.create_task(now.publish(requests(count)))
        for _ in range(kills):
            await asyncio.sleep(now.dice.uniform(0.3, 3.0 if full else 1.0))
            await now.victim.kill()
            now.tally.faults += 1
            await now.recover()
        await producing
        await now.apply()

    assert now.tally.in_doubt <= kills * 64, "no more than could be in flight at each kill"


async def test_sigterm_at_random_moments_ends_in_order(scene: SetScene, full: bool) -> None:
    """M16: every exit code is 0 and no part is aborted at the end of the grace period, so nothing is in doubt."""
    stops, count = (100, 3000) if full else (4, 200)
    async with scene("M16", kickoff_delay=0.2) as now:
        await now.victim.start()
        producing = asyncio.create_task(now.publish(requests(count)))
        for _ in range(stops):
            await asyncio.sleep(now.dice.uniform(0.05, 1.5))
            assert await now.victim.terminate() == 0, now.victim.log_tail()
            now.tally.faults += 1
            await now.recover()
        await producing
        await now.apply()

    assert now.victim.log_events()["part_cancelled"] == 0
    assert now.tally.in_doubt == 0
