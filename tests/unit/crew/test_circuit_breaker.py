"""A crew's circuit breaker: opened by what no request is to blame for, closed by a probe and one kickoff that works."""

from bridge.core.crew.circuit_breaker import PROBE_INTERVAL, Breaker

NOW = 1_800_000_000.0


def opened() -> Breaker:
    breaker = Breaker()
    assert breaker.trip("HTTP 401", NOW)
    return breaker


def test_a_closed_breaker_lets_everything_pass():
    breaker = Breaker()
    breaker.begin_trial(7)
    assert breaker.capacity(7) == 7
    assert not breaker.on_kickoff_answered()


def test_an_open_breaker_lets_nothing_pass_and_the_crew_is_probed_after_a_minute():
    breaker = opened()
    assert (breaker.is_open, breaker.capacity(7), breaker.probe_at) == (True, 0, NOW + PROBE_INTERVAL)


def test_opening_again_is_no_news_and_keeps_the_time_of_the_first():
    breaker = opened()
    assert not breaker.trip("HTTP 403", NOW + 10)
    assert (breaker.reason, breaker.opened_at, breaker.probe_at) == ("HTTP 403", NOW, NOW + 10 + PROBE_INTERVAL)


def test_a_probe_that_fails_is_repeated_a_minute_later():
    breaker = opened()
    assert breaker.on_probe(ok=False, now=NOW + 60) == 0
    assert (breaker.is_open, breaker.probe_at) == (True, NOW + 60 + PROBE_INTERVAL)


def test_after_a_probe_that_works_one_kickoff_tries():
    breaker = opened()
    assert breaker.on_probe(ok=True, now=NOW + 60) == 60
    assert (breaker.is_open, breaker.capacity(7)) == (False, 1)
    breaker.begin_trial(0)
    assert breaker.capacity(7) == 1
    breaker.begin_trial(1)
    assert breaker.capacity(7) == 0


def test_the_breaker_is_closed_again_when_that_kickoff_was_not_turned_away():
    breaker = opened()
    breaker.on_probe(ok=True, now=NOW + 60)
    breaker.begin_trial(1)
    assert breaker.on_kickoff_answered()
    assert breaker.capacity(7) == 7


def test_a_quota_that_a_probe_cannot_see_opens_the_breaker_again_after_one_kickoff():
    breaker = opened()
    breaker.on_probe(ok=True, now=NOW + 60)
    breaker.begin_trial(1)
    assert not breaker.trip("HTTP 403: monthly execution limit", NOW + 61)
    assert (breaker.is_open, breaker.opened_at) == (True, NOW + 61)


def test_a_kickoff_that_was_not_sent_after_all_leaves_the_try_to_the_next():
    breaker = opened()
    breaker.cancel_trial()
    assert breaker.is_open
    breaker.on_probe(ok=True, now=NOW + 60)
    breaker.begin_trial(1)
    breaker.cancel_trial()
    assert breaker.capacity(7) == 1


def test_a_probe_while_the_breaker_is_closed_changes_nothing():
    breaker = Breaker()
    assert breaker.on_probe(ok=True, now=NOW) == 0
    assert breaker.capacity(7) == 7
