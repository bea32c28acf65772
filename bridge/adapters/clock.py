"""The process's two clocks: a steady one for schedules, which never jumps or runs back, and the wall clock.

A wall clock may be set by hours, in either direction. A due time in the store or in memory would then stand far off, a
deadline pass at once. So the difference is made up slowly, as time services do with small ones.

A signed timestamp is compared with the wall clock as it is: its sender, or its receiver, knows no other.
"""

import time
from collections.abc import Callable

import structlog

from bridge.ports.lifecycle import Health

SLEW = 0.05  # seconds that may be made up in a second
LEAP = 5.0  # seconds of difference that are logged

log = structlog.get_logger()


def wall_clock() -> float:
    """Return the machine's time, in seconds since the epoch: for timestamps that others sign or check."""
    return time.time()


def steady_clock() -> "SteadyClock":
    """Return a clock for everything that is scheduled or stored."""
    return SteadyClock(wall_clock, time.monotonic)


class SteadyClock:
    """`ports.Clock`. `wall` may leap, `monotonic` must not; both in seconds."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._started, self._started_at = wall(), monotonic()
        self._made_up = 0.0  # kept apart from the large number, in whose last digits it would be lost
        self._made_up_at = self._started_at
        self._jump_logged = False

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        at = self._monotonic()
        difference = self._wall() - self._shown(at)
        self._log_jump(difference)
        most = SLEW * (at - self._made_up_at)
        self._made_up += min(max(difference, -most), most)
        self._made_up_at = at
        return self._shown(at)

    async def health(self) -> Health:
        """Whether this clock agrees with the machine's."""
        difference = self._wall() - self._shown(self._monotonic())
        if abs(difference) <= LEAP:
            return Health(ok=True, detail="agrees with the machine's clock")
        side = "behind" if difference > 0 else "ahead of"
        return Health(ok=False, detail=f"{round(abs(difference))} s {side} the machine's clock; adjusts gradually")

    def _shown(self, at: float) -> float:
        return self._started + (at - self._started_at + self._made_up)

    def _log_jump(self, difference: float) -> None:
        jumped = abs(difference) > LEAP
        if jumped and not self._jump_logged:
            log.warning("clock_jumped", difference_s=round(difference, 1))
        self._jump_logged = jumped
