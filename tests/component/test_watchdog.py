"""The watchdog: a blocked event loop is noticed from another thread."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import MutableMapping
from functools import partial
from typing import Any

from structlog.testing import capture_logs

from bridge.observability.watchdog import Watchdog
from tests.patience import PATIENCE


class Clock:
    """Set by hand, so that a slow machine is not a stall; counts the reads of each thread."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.reads: Counter[str] = Counter()

    def __call__(self) -> float:
        self.reads[threading.current_thread().name] += 1
        return self.now

    async def acquire(self, seconds: float) -> None:
        """Return when both the loop and its watchdog have read the new time."""
        self.now += seconds
        seen = self.reads.copy()
        both = (threading.main_thread().name, Watchdog.name)
        while not all(self.reads[name] > seen[name] for name in both):  # noqa: ASYNC110 - neither gives a signal
            await asyncio.sleep(0.001)


def stand_still(clock: Clock, logs: list[MutableMapping[str, Any]]) -> None:
    """Block the loop until the watchdog has noticed it and has read the time again."""
    clock.now += 1.0
    while not logs:
        time.sleep(0.001)
    seen = clock.reads[Watchdog.name]
    while clock.reads[Watchdog.name] < seen + 5:
        time.sleep(0.001)


async def test_a_blocked_loop_is_reported_once_with_its_stack() -> None:
    clock, alive = Clock(), list[int]()
    watchdog = Watchdog(partial(alive.append, 1), stalled_after=0.1, monotonic=clock)
    running = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)
    before = len(alive)

    with capture_logs() as logs:
        stand_still(clock, logs)
        stalled, meanwhile = watchdog.stalled, len(alive)
        async with asyncio.timeout(PATIENCE):
            await clock.acquire(0.0)
        watchdog.stop()
        await running

    assert [line["event"] for line in logs] == ["event_loop_stalled"]
    assert any("stand_still" in entry for entry in logs[0]["stack"])
    assert stalled
    assert (before, meanwhile) == (1, 1), "a loop that does not run is not alive"
    assert len(alive) > 1
    assert not watchdog.stalled


async def test_a_responsive_loop_is_not_reported() -> None:
    """However long it runs: each iteration counts from the one before."""
    clock = Clock()
    watchdog = Watchdog(stalled_after=0.1, monotonic=clock)
    running = asyncio.create_task(watchdog.run())
    with capture_logs() as logs:
        async with asyncio.timeout(PATIENCE):
            for _ in range(5):
                await clock.acquire(0.09)
    watchdog.stop()
    await running

    assert logs == []
    assert not watchdog.stalled
