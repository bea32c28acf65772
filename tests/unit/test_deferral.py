"""A run is deferred for longer each time that the same trouble repeats."""

from bridge.core.runs.deferral import PAUSES, Deferral, deferred_again, pause_after
from tests.fakes import NOW


def test_pauses_grow_and_the_last_one_repeats() -> None:
    assert [pause_after(failures) for failures in range(1, len(PAUSES) + 1)] == list(PAUSES)
    assert sorted(PAUSES) == list(PAUSES)
    assert pause_after(1000) == PAUSES[-1]
    assert pause_after(0) == PAUSES[0]


def test_a_deferral_keeps_when_the_trouble_began() -> None:
    first = deferred_again(None, "internal error", NOW)
    again = deferred_again(first, "internal error", NOW + 60.0)
    assert first == Deferral("internal error", NOW, NOW + PAUSES[0], 1)
    assert again == Deferral("internal error", NOW, NOW + 60.0 + PAUSES[1], 2)
