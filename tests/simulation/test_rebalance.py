"""Several simulated bridges share what is to be followed, also when nothing fails."""

import asyncio
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.fakes import memory_folder
from tests.simulation.bridge_process import Life
from tests.simulation.history import LONG, History
from tests.simulation.run import empty_store
from tests.simulation.virtual_time import run_virtually

RUNS = 30
SLACK = 2  # runs, a tenth of a share up and down
TRACKED_STATES = "SELECT owner FROM runs WHERE state = 'running'"


def test_who_joins_follows_as_much_as_the_others_and_who_leaves_leaves_it_to_them() -> None:
    with memory_folder() as folder:
        file = Path(folder) / "bridge.db"
        shutil.copy(empty_store(Path(folder)), file)
        history = History(0, file, bridges=3, slots=RUNS)
        history.site = replace(history.site, policy=replace(history.policy, deadline=LONG))
        history.world.calm = True
        history.world.answer = None
        history.world.lasting = (2 * LONG,)
        shares = run_virtually(_two_join_the_first_and_leave(history))

    assert [set(of_each) for of_each in shares] == [{"first"}, {"first", "second", "third"}, {"first", "second"}]
    for of_each in shares:
        assert sum(of_each.values()) == RUNS
        assert max(of_each.values()) - min(of_each.values()) <= SLACK
    assert set(history.world.posts.values()) == {1}


async def _two_join_the_first_and_leave(history: History) -> list[Counter[str]]:
    shares: list[Counter[str]] = []

    async def settle_down() -> None:
        await asyncio.sleep(20.0)
        shares.append(Counter(owner for (owner,) in history.rows(TRACKED_STATES)))

    async with asyncio.TaskGroup() as group:
        first, second, third = (asyncio.Event() for _ in range(3))
        group.create_task(history.live("first", lambda life: _until(first, life)))
        await asyncio.sleep(1.0)
        for number in range(RUNS):
            await history.produce(f"order-{number}")
        await settle_down()
        group.create_task(history.live("second", lambda life: _until(second, life)))
        group.create_task(history.live("third", lambda life: _until(third, life)))
        await settle_down()
        third.set()
        await settle_down()
        first.set()
        second.set()
    return shares


async def _until(told: asyncio.Event, life: Life) -> None:
    while not told.is_set():
        await life.last(0.5)
