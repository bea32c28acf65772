"""A crew's webhooks are relied on after a long record, and no longer once they stay away."""

from bridge.core.trust import Trust


def after(*ends: bool) -> Trust:
    trust = Trust()
    for announced in ends:
        trust.ended(announced=announced)
    return trust


def test_nothing_is_relied_on_before_it_was_seen():
    assert not after().earned


def test_it_takes_sixteen_announced_ends_in_a_row():
    assert not after(*[True] * 15).earned
    assert after(*[True] * 16).earned


def test_trust_that_is_just_earned_is_lost_with_the_first_silent_end():
    assert not after(*[True] * 16, False).earned


def test_a_long_record_forgives_two_silent_ends_in_a_row_and_not_a_third():
    assert after(*[True] * 200, False, False).earned
    assert not after(*[True] * 200, False, False, False).earned


def test_lost_trust_can_be_earned_again():
    assert after(*[True] * 200, *[False] * 200, *[True] * 16).earned


def test_every_other_end_is_never_enough():
    trust = after()
    for number in range(400):
        trust.ended(announced=number % 2 == 0)
        assert not trust.earned
