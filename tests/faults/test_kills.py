"""Kills: at every named point, at random moments, and signals under load (M1, M2, M16)."""

import asyncio
import time
from typing import Any

import pytest

from tests.acceptance.harness import eventually
from tests.faults.conftest import SetScene
from tests.faults.daemon import POINTS
from tests.faults.harness import Scene, requests

pytestmark = pytest.mark.timeout(3600)

MAY_LEAVE_IN_DOUBT = {"K06", "K07", "K08"}


@pytest.mark.parametrize("point", sorted(POINTS))
async def test_a_kill_at_any_point_loses_nothing_and_pays_nothing_twice(
    scene: SetScene, point: str, full: bool
) -> None:
    """M1: the process kills itself at the point, with one request in it, and is started again."""
    repeats = 25 if full and point != "K18" else 1
    async with scene(f"M1 {point}", kickoff_delay=0.3 if point == "K07" else 0.0) as now:
        for number in range(repeats):
            await die_at(now, point, requests(1, start=number))
            now.tally.faults += 1
            await now.recover()
            await now.come_to_rest()
            if number < repeats - 1:
                await now.victim.terminate(within=80)
        await now.settle()

        if point == "K17":
            assert await now.dead_letters() >= repeats, "a message that cannot be read must be kept for a person"

    assert now.tally.in_doubt == (repeats if point in MAY_LEAVE_IN_DOUBT else 0), now.tally


async def die_at(now: Scene, point: str, wanted: list[dict[str, Any]]) -> None:
    """Bring the process to the point and see it die there."""
    match point:
        case "K04":
            await now.victim.start(point)
            now.submit(wanted)
        case "K17":
            await now.victim.start(point)
            await now.publish_nonsense()
            now.submit(wanted)
        case "K18":
            now.submit(wanted)
            await now.victim.start(point, until_ready=False)
        case "K19":
            await now.victim.start()
            await now.publish(wanted)
            await eventually(now.all_started, 30, "the run is under way")
            await now.victim.kill()
            await now.victim.start(point, until_ready=False)
        case "K20":
            await now.victim.start(point)
            await now.publish(wanted)
            await eventually(now.all_started, 30, "the run is under way")
            now.victim.ask_to_stop()
        case _:
            await now.victim.start(point)
            await now.publish(wanted)
    await now.victim.died()


async def test_kills_at_random_moments_under_load(scene: SetScene, full: bool) -> None:
    """M2: 200 kills within 10,000 requests."""
    kills, count = (200, 10_000) if full else (6, 300)
    async with scene("M2") as now:
        await now.victim.start()
        producing = asyncio.create_task(now.publish(requests(count)))
        for _ in range(kills):
            await asyncio.sleep(now.dice.uniform(0.3, 3.0 if full else 1.0))
            await now.victim.kill()
            now.tally.faults += 1
            await now.recover()
        await producing
        await now.settle()

    assert now.tally.in_doubt <= kills * 16, "no more than could be under way at each kill"


async def test_sigterm_at_random_moments_ends_in_order(scene: SetScene, full: bool) -> None:
    """M16: every exit code is 0 and no POST is cut off, so nothing is in doubt."""
    stops, count = (100, 3000) if full else (4, 200)
    async with scene("M16", kickoff_delay=0.2) as now:
        await now.victim.start()
        producing = asyncio.create_task(now.publish(requests(count)))
        for _ in range(stops):
            await asyncio.sleep(now.dice.uniform(0.05, 1.5))
            began = time.monotonic()
            assert await now.victim.terminate(within=80) == 0, now.victim.log_tail()
            assert time.monotonic() - began < 75
            now.tally.faults += 1
            await now.recover()
        await producing
        await now.settle()

    assert now.tally.in_doubt == 0
