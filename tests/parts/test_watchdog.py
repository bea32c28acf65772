"""The watchdog: a loop that stands still is noticed from outside of it."""

import asyncio
import time

from structlog.testing import capture_logs

from bridge.adapters.watchdog import Watchdog


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_stalled_loop_is_told_once_with_the_place_where_it_stands() -> None:
    watchdog = Watchdog(stalled_after=0.1)
    running = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)

    with capture_logs() as logs:
        stand_still(0.4)
    stalled = watchdog.stalled
    await asyncio.sleep(0.02)
    watchdog.stop()
    await running

    assert [line["event"] for line in logs] == ["event_loop_stalled"]
    assert any("stand_still" in entry for entry in logs[0]["stack"])
    assert stalled
    assert not watchdog.stalled


async def test_a_loop_that_turns_is_left_in_peace() -> None:
    watchdog = Watchdog(stalled_after=5.0)
    running = asyncio.create_task(watchdog.run())
    with capture_logs() as logs:
        await asyncio.sleep(0.02)
    watchdog.stop()
    await running

    assert not watchdog.stalled
    assert logs == []
