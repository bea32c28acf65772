"""The process's two clocks: a steady one for schedules, which never jumps or runs back, and the wall clock.

A wall clock can be set forward or back by hours, which would end deadlines at once or postpone due times by hours.
Therefore the steady clock slews: it approaches the wall clock gradually, as NTP daemons do for small differences.

Signed timestamps are compared with the wall clock, because other machines create and check them.
"""

import time
from collections.abc import Callable

import structlog

from bridge.ports.lifecycle import Health

SLEW = 0.05  # maximum correction, in seconds per second
CORRECTION_INTERVAL = 0.01  # seconds; a run asks for the time fifteen times
JUMP = 5.0  # seconds; a larger difference is logged and unhealthy

log = structlog.get_logger()


def wall_clock() -> float:
    """Return the machine's time in seconds since the epoch, for timestamps that other machines create or check."""
    return time.time()


def steady_clock() -> "SteadyClock":
    """Return a clock for everything that is scheduled or stored."""
    return SteadyClock(wall_clock, time.monotonic)


class SteadyClock:
    """Implements `ports.Clock`. `wall` may jump, `monotonic` must not; both return seconds."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._started, self._started_at = wall(), monotonic()
        self._correction = 0.0  # separate, because adding it to the large number would lose precision
        self._corrected_at = self._started_at
        self._jump_logged = False

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        at = self._monotonic()
        if at - self._corrected_at >= CORRECTION_INTERVAL:
            self._correct(at)
        return self._time_at(at)

    def _correct(self, at: float) -> None:
        difference = self._wall() - self._time_at(at)
        self._log_jump(difference)
        limit = SLEW * (at - self._corrected_at)
        self._correction += min(max(difference, -limit), limit)
        self._corrected_at = at

    async def health(self) -> Health:
        """Return whether this clock agrees with the machine's."""
        difference = self._wall() - self._time_at(self._monotonic())
        if abs(difference) <= JUMP:
            return Health(ok=True, detail="agrees with the machine's clock")
        side = "behind" if difference > 0 else "ahead of"
        return Health(ok=False, detail=f"{round(abs(difference))} s {side} the machine's clock; adjusts gradually")

    def _time_at(self, at: float) -> float:
        return self._started + (at - self._started_at + self._correction)

    def _log_jump(self, difference: float) -> None:
        jumped = abs(difference) > JUMP
        if jumped and not self._jump_logged:
            log.warning("clock_jumped", difference_s=round(difference, 1))
        self._jump_logged = jumped
