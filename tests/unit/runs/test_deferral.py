"""Deferrals: the delay grows each time the same error repeats."""

from bridge.core.runs.model import Deferral
from bridge.core.runs.timing import DELAYS, deferred_again, delay_after
from tests.fakes import NOW


def test_delays_grow_and_the_last_one_repeats() -> None:
    assert [delay_after(failures) for failures in range(1, len(DELAYS) + 1)] == list(DELAYS)
    assert sorted(DELAYS) == list(DELAYS)
    assert delay_after(1000) == DELAYS[-1]
    assert delay_after(0) == DELAYS[0]


def test_a_deferral_keeps_the_time_of_the_first_error() -> None:
    first = deferred_again(None, "internal error", NOW)
    again = deferred_again(first, "internal error", NOW + 60.0)
    assert first == Deferral("internal error", NOW, NOW + DELAYS[0], 1)
    assert again == Deferral("internal error", NOW, NOW + 60.0 + DELAYS[1], 2)
