"""A crew's circuit breaker: opened by errors that no request caused, closed after a successful probe and kickoff."""

from bridge.core.crew.circuit_breaker import PROBE_INTERVAL, Breaker, Pause

NOW = 1_800_000_000.0


def opened() -> Breaker:
    breaker = Breaker()
    assert breaker.trip("HTTP 401", NOW)
    return breaker


def test_a_closed_breaker_permits_every_call():
    breaker = Breaker()
    breaker.begin_trial(7)
    assert breaker.capacity(7) == 7
    assert not breaker.on_kickoff_answered()


def test_an_open_breaker_permits_no_call_and_schedules_a_probe_after_a_minute():
    breaker = opened()
    assert (breaker.is_open, breaker.capacity(7), breaker.probe_at) == (True, 0, NOW + PROBE_INTERVAL)


def test_opening_an_open_breaker_keeps_the_first_time():
    breaker = opened()
    assert not breaker.trip("HTTP 403", NOW + 10)
    assert (breaker.reason, breaker.opened_at, breaker.probe_at) == ("HTTP 403", NOW, NOW + 10 + PROBE_INTERVAL)


def test_a_failed_probe_is_repeated_after_a_minute():
    breaker = opened()
    assert breaker.on_probe(ok=False, now=NOW + 60) == 0
    assert (breaker.is_open, breaker.probe_at) == (True, NOW + 60 + PROBE_INTERVAL)


def test_a_successful_probe_permits_one_trial_kickoff():
    breaker = opened()
    assert breaker.on_probe(ok=True, now=NOW + 60) == 60
    assert (breaker.is_open, breaker.capacity(7)) == (False, 1)
    breaker.begin_trial(0)
    assert breaker.capacity(7) == 1
    breaker.begin_trial(1)
    assert breaker.capacity(7) == 0


def test_a_trial_kickoff_that_is_not_refused_closes_the_breaker():
    breaker = opened()
    breaker.on_probe(ok=True, now=NOW + 60)
    breaker.begin_trial(1)
    assert breaker.on_kickoff_answered()
    assert breaker.capacity(7) == 7


def test_a_trial_kickoff_refused_for_a_quota_opens_the_breaker_again():
    breaker = opened()
    breaker.on_probe(ok=True, now=NOW + 60)
    breaker.begin_trial(1)
    assert not breaker.trip("HTTP 403: monthly execution limit", NOW + 61)
    assert (breaker.is_open, breaker.opened_at) == (True, NOW + 61)


def test_an_unsent_trial_kickoff_leaves_the_trial_to_the_next():
    breaker = opened()
    breaker.cancel_trial()
    assert breaker.is_open
    breaker.on_probe(ok=True, now=NOW + 60)
    breaker.begin_trial(1)
    breaker.cancel_trial()
    assert breaker.capacity(7) == 1


def test_a_probe_does_not_change_a_closed_breaker():
    breaker = Breaker()
    assert breaker.on_probe(ok=True, now=NOW) == 0
    assert breaker.capacity(7) == 7


def test_a_pause_lasts_from_the_first_refusal_until_a_kickoff_succeeds():
    breaker = opened()
    assert breaker.pause == Pause("HTTP 401", NOW, probed=False)
    breaker.on_probe(ok=True, now=NOW + 60)
    breaker.begin_trial(1)
    assert breaker.pause == Pause("HTTP 401", NOW, probed=True)
    breaker.trip("HTTP 403", NOW + 61)
    assert breaker.pause == Pause("HTTP 403", NOW, probed=False)
    breaker.on_probe(ok=True, now=NOW + 120)
    breaker.begin_trial(1)
    breaker.on_kickoff_answered()
    assert breaker.pause is None
