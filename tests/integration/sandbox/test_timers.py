"""Timers call functions in order at their times, with one task for all."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from bridge.sandbox.timers import Timers

from .conftest import START, HandClock


@asynccontextmanager
async def ticking(timers: Timers) -> AsyncIterator[None]:
    task = asyncio.create_task(timers.run())
    await asyncio.sleep(0)
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def apply() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_past_timers_fire_at_once_and_in_order(clock: HandClock) -> None:
    timers, done = Timers(clock), list[str]()
    async with ticking(timers):
        for moment, name in ((START - 1, "b"), (START - 2, "a"), (START, "c"), (START, "d")):
            timers.at(moment, lambda name=name: done.append(name))  # type: ignore[misc]
        await apply()
    assert done == ["a", "b", "c", "d"]


async def test_a_nudge_fires_due_timers(clock: HandClock) -> None:
    timers, done = Timers(clock), list[str]()
    async with ticking(timers):
        timers.at(START + 3600, lambda: done.append("late"))
        timers.at(START + 60, lambda: done.append("soon"))
        timers.send_due()
        await apply()
        assert done == []
        clock.forward(60)
        timers.send_due()
        await apply()
        assert done == ["soon"]


async def test_the_wall_clock_needs_no_nudge() -> None:
    loop = asyncio.get_running_loop()
    timers, done = Timers(loop.time), loop.create_future()
    async with ticking(timers):
        timers.at(loop.time() + 0.01, lambda: done.set_result("done"))
        assert await done == "done"
