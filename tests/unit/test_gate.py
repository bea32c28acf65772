"""The gate of a crew: closed by what no request is to blame for, opened by a probe and one kickoff that works."""

from bridge.core.gate import PROBE_EVERY, Gate

NOW = 1_800_000_000.0


def closed() -> Gate:
    gate = Gate()
    assert gate.close("HTTP 401", NOW)
    return gate


def test_an_open_crew_takes_what_there_is():
    gate = Gate()
    gate.take(7)
    assert gate.room(7) == 7
    assert not gate.answered()


def test_a_closed_crew_takes_nothing_and_is_probed_after_a_minute():
    gate = closed()
    assert (gate.closed, gate.room(7), gate.probe_at) == (True, 0, NOW + PROBE_EVERY)


def test_closing_again_is_no_news_and_keeps_the_time_of_the_first():
    gate = closed()
    assert not gate.close("HTTP 403", NOW + 10)
    assert (gate.reason, gate.closed_at, gate.probe_at) == ("HTTP 403", NOW, NOW + 10 + PROBE_EVERY)


def test_a_probe_that_fails_is_repeated_a_minute_later():
    gate = closed()
    assert gate.probed(ok=False, now=NOW + 60) == 0
    assert (gate.closed, gate.probe_at) == (True, NOW + 60 + PROBE_EVERY)


def test_after_a_probe_that_works_one_kickoff_tries():
    gate = closed()
    assert gate.probed(ok=True, now=NOW + 60) == 60
    assert (gate.closed, gate.room(7)) == (False, 1)
    gate.take(0)
    assert gate.room(7) == 1
    gate.take(1)
    assert gate.room(7) == 0


def test_the_crew_is_open_again_when_that_kickoff_was_not_turned_away():
    gate = closed()
    gate.probed(ok=True, now=NOW + 60)
    gate.take(1)
    assert gate.answered()
    assert gate.room(7) == 7


def test_a_quota_that_a_probe_cannot_see_closes_the_crew_again_after_one_kickoff():
    gate = closed()
    gate.probed(ok=True, now=NOW + 60)
    gate.take(1)
    assert not gate.close("HTTP 403: monthly execution limit", NOW + 61)
    assert (gate.closed, gate.closed_at) == (True, NOW + 61)


def test_a_kickoff_that_was_not_sent_after_all_leaves_the_try_to_the_next():
    gate = closed()
    gate.give_back()
    assert gate.closed
    gate.probed(ok=True, now=NOW + 60)
    gate.take(1)
    gate.give_back()
    assert gate.room(7) == 1


def test_a_probe_of_a_crew_that_is_open_changes_nothing():
    gate = Gate()
    assert gate.probed(ok=True, now=NOW) == 0
    assert gate.room(7) == 7
