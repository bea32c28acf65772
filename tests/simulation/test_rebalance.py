"""Several simulated bridges divide the tracked runs evenly, also when nothing fails."""

import asyncio
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.fakes import memory_folder
from tests.simulation.bridge_process import BridgeProcess
from tests.simulation.history import LONG, History
from tests.simulation.run import empty_store
from tests.simulation.virtual_time import run_virtually

RUNS = 30
SLACK = 2  # runs; a tenth of the fair share in both directions
TRACKED_STATES = "SELECT owner FROM runs WHERE state = 'running'"


def test_a_joining_process_takes_its_share_and_a_leaving_one_releases_it() -> None:
    with memory_folder() as folder:
        file = Path(folder) / "bridge.db"
        shutil.copy(empty_store(Path(folder)), file)
        history = History(0, file, bridges=3, slots=RUNS)
        history.environment = replace(history.environment, policy=replace(history.policy, deadline=LONG))
        history.world.calm = True
        history.world.answer = None
        history.world.lasting = (2 * LONG,)
        counts = run_virtually(_two_join_the_first_and_leave(history))

    assert [set(of_each) for of_each in counts] == [{"first"}, {"first", "second", "third"}, {"first", "second"}]
    for of_each in counts:
        assert sum(of_each.values()) == RUNS
        assert max(of_each.values()) - min(of_each.values()) <= SLACK
    assert set(history.world.posts.values()) == {1}


async def _two_join_the_first_and_leave(history: History) -> list[Counter[str]]:
    counts: list[Counter[str]] = []

    async def settle_down() -> None:
        await asyncio.sleep(20.0)
        counts.append(Counter(owner for (owner,) in history.rows(TRACKED_STATES)))

    async with asyncio.TaskGroup() as group:
        first, second, third = (asyncio.Event() for _ in range(3))
        group.create_task(history.live("first", lambda process: _until(first, process)))
        await asyncio.sleep(1.0)
        for number in range(RUNS):
            await history.produce(f"order-{number}")
        await settle_down()
        group.create_task(history.live("second", lambda process: _until(second, process)))
        group.create_task(history.live("third", lambda process: _until(third, process)))
        await settle_down()
        third.set()
        await settle_down()
        first.set()
        second.set()
    return counts


async def _until(event: asyncio.Event, process: BridgeProcess) -> None:
    while not event.is_set():
        await process.run_for(0.5)
