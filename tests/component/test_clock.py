"""The steady clock: it follows the wall clock without jumps, and never runs backward."""

from dataclasses import dataclass

from structlog.testing import capture_logs

from bridge.adapters.clock import CORRECTION_INTERVAL, SLEW, SteadyClock

DAY = 86_400.0


@dataclass
class Clocks:
    wall: float = 1_800_000_000.0
    monotonic: float = 50.0

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def steady(self) -> SteadyClock:
        return SteadyClock(lambda: self.wall, lambda: self.monotonic)


def test_it_equals_the_wall_clock_while_that_is_steady() -> None:
    clocks = Clocks()
    clock = clocks.steady()

    clocks.pass_(3600.5)

    assert clock() == clocks.wall


def test_a_wall_clock_set_by_a_day_moves_it_by_little() -> None:
    for leap in (DAY, -DAY):
        clocks = Clocks()
        clock = clocks.steady()
        before = clock()

        clocks.wall += leap
        at_once = clock()
        clocks.pass_(10.0)

        assert at_once == before
        assert 10.0 * (1 - SLEW) <= clock() - before <= 10.0 * (1 + SLEW)


def test_a_difference_is_corrected_gradually() -> None:
    clocks = Clocks()
    clock = clocks.steady()
    clocks.wall += 4.0

    for _ in range(100):
        clocks.pass_(1.0)
        clock()

    assert clock() == clocks.wall


def test_steps_of_five_seconds_every_second_never_turn_it_back() -> None:
    clocks = Clocks()
    clock = clocks.steady()
    shown = [clock()]
    for acquire in range(60):
        clocks.pass_(1.0)
        clocks.wall += 5.0 if acquire % 2 else -5.0
        shown.append(clock())

    assert shown == sorted(shown)
    assert shown[-1] - shown[0] <= 60 * (1 + SLEW)


def test_a_jump_is_reported_once() -> None:
    clocks = Clocks()
    clock = clocks.steady()
    clocks.wall += DAY

    with capture_logs() as logs:
        for _ in range(2):
            clocks.pass_(CORRECTION_INTERVAL)
            clock()

    assert [(line["event"], line["difference_s"]) for line in logs] == [("clock_jumped", DAY)]


async def test_a_difference_from_the_wall_clock_is_a_problem_in_readiness() -> None:
    for leap, side in ((3600.0, "behind"), (-3600.0, "ahead of")):
        clocks = Clocks()
        clock = clocks.steady()
        assert (await clock.health()).ok

        clocks.wall += leap

        shown = await clock.health()
        assert (shown.ok, shown.detail) == (False, f"3600 s {side} the machine's clock; adjusts gradually")
