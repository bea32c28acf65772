"""Slots: one holder takes at most half of the free ones, and several holders leave one for a newcomer."""

from bridge.core.http.limits import Slots


def taken(slots: Slots, holder: str, *, fairly: bool = True) -> int:
    count = 0
    while slots.take(holder, fairly=fairly):
        count += 1
    return count


def test_one_holder_leaves_half_to_others() -> None:
    slots = Slots(100)
    assert [taken(slots, name) for name in ("a", "b", "c")] == [50, 25, 13]
    assert slots.take("d")


def test_the_last_slot_goes_to_a_holder_that_has_none() -> None:
    slots = Slots(2)
    assert taken(slots, "a") == 1
    assert taken(slots, "b") == 1
    assert not slots.take("c")


def test_a_single_holder_without_competition_may_take_all() -> None:
    slots = Slots(3)
    assert taken(slots, "anonymous", fairly=False) == 3


def test_a_released_slot_can_be_taken_again() -> None:
    slots = Slots(2)
    assert slots.take("a")
    assert not slots.take("a")
    assert slots.take("a", fairly=False)
    assert not slots.take("b")
    slots.release("a")
    assert slots.take("b")
    slots.release("a")
    slots.release("b")
    assert taken(slots, "c", fairly=False) == 2
