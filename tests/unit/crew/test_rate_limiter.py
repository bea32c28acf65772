"""The rate of calls to a crew: one limit for all calls, kickoffs first, lowered by refusals, raised by successes."""

from bridge.core.crew.fair_share import FairShare, Membership
from bridge.core.crew.rate_limiter import (
    FAILURES_UNTIL_BACKOFF,
    MAX_BACKOFF,
    MAX_RETRY_AFTER,
    POLL_RESERVE,
    PROBE_TIMEOUT,
    SILENCE_TTL,
    Backoff,
    RateLimiter,
)

START = 1_000.0


class Caller:
    """Calls whenever the limiter permits, tried a hundred times a second; `answer` is the response of the crew."""

    def __init__(self, per_second: float) -> None:
        self.rate_limiter = RateLimiter(per_second)
        self.now = START
        self.calls: list[float] = []

    def call_for(self, seconds: float, *, refused: bool) -> int:
        """Call for this many seconds; return the number of calls."""
        before, end = len(self.calls), self.now + seconds
        while self.now < end:
            if self.rate_limiter.acquire_for_polls(self.now, 1):
                self.calls.append(self.now)
                if refused:
                    self.rate_limiter.on_throttled(self.now, self.now, None)
                else:
                    self.rate_limiter.on_response(self.now)
            self.now += 0.01
        return len(self.calls) - before


def taken(rate_limiter: RateLimiter, now: float, most: int = 1000) -> int:
    """The number of kickoffs permitted at this moment."""
    return next(count for count in range(most) if rate_limiter.acquire(now) > 0.0)


def test_calls_are_spaced_evenly_and_few_unused_permits_are_saved():
    rate_limiter = RateLimiter(20.0)
    assert rate_limiter.acquire(START) == 0.0
    assert rate_limiter.acquire(START) == 0.05
    assert rate_limiter.acquire(START + 0.05) == 0.0
    assert taken(rate_limiter, START + 100.0) == 1


def test_at_a_high_rate_several_permits_are_granted_at_once():
    rate_limiter = RateLimiter(1000.0)
    assert taken(rate_limiter, START) == 20
    assert taken(rate_limiter, START + 100.0) == 21


def test_the_rate_is_divided_among_processes():
    share = FairShare()
    share.update(Membership(4, 0, 0))
    assert RateLimiter(20.0, share).per_second == 5.0


def test_another_rate_applies_at_once():
    rate_limiter = RateLimiter(20.0)
    assert rate_limiter.acquire(START) == 0.0
    rate_limiter.use(10.0)
    assert (rate_limiter.per_second, rate_limiter.acquire(START)) == (10.0, 0.1)


def test_polls_yield_to_waiting_calls_but_keep_a_fraction_of_the_rate():
    rate_limiter, now, calls, polls = RateLimiter(20.0), START, 0, 0
    rate_limiter.waiting = 1  # at least one
    for _ in range(1000):
        now += 0.01
        polls += rate_limiter.acquire_for_polls(now, 3)
        calls += rate_limiter.acquire(now) == 0.0
    assert 195 <= calls + polls <= 202
    assert POLL_RESERVE * 0.9 <= polls / calls <= POLL_RESERVE * 1.1


def test_polls_yield_to_kickoffs_but_keep_a_fraction_of_the_rate():
    rate_limiter, now, kickoffs, polls = RateLimiter(20.0), START, 0, 0
    for _ in range(1000):
        now += 0.01
        polls += rate_limiter.acquire_for_polls(now, 3)
        kickoffs += rate_limiter.acquire_for_kickoffs(now, 9)
    assert 195 <= kickoffs + polls <= 202
    assert POLL_RESERVE * 0.9 <= polls / kickoffs <= POLL_RESERVE * 1.1


def test_kickoffs_and_waiting_calls_share_the_rate_whichever_asks_first():
    """By precedence alone, thousands of cancelled runs whose executions are polled once would stop all kickoffs."""
    for kickoffs_first in (True, False):
        rate_limiter, now, kickoffs, calls = RateLimiter(20.0), START, 0, 0
        rate_limiter.waiting = 5
        for _ in range(1000):
            now += 0.01
            kickoffs += rate_limiter.acquire_for_kickoffs(now, 9) if kickoffs_first else 0
            calls += rate_limiter.acquire(now) == 0.0
            kickoffs += 0 if kickoffs_first else rate_limiter.acquire_for_kickoffs(now, 9)
        assert 195 <= kickoffs + calls <= 202
        assert 0.9 <= kickoffs / calls <= 1.1


def test_permits_of_kickoffs_that_are_not_made_are_returned_to_others():
    rate_limiter = RateLimiter(1000.0)
    assert rate_limiter.acquire_for_kickoffs(START, 64) == 20
    assert (rate_limiter.kickoffs_waiting, rate_limiter.acquire_for_polls(START, 5)) == (44, 0)
    assert rate_limiter.return_kickoff_permits(20), "polls wait"
    assert (rate_limiter.kickoffs_waiting, rate_limiter.acquire_for_polls(START, 99)) == (0, 20)
    assert not rate_limiter.return_kickoff_permits(0)


def test_a_returned_permit_of_a_test_call_lets_another_call_test_the_crew():
    rate_limiter = RateLimiter(1000.0)
    rate_limiter.on_throttled(START, START, 1.0)
    assert rate_limiter.acquire_for_kickoffs(START + 1.0, 9) == 1
    rate_limiter.return_kickoff_permits(1)
    assert rate_limiter.acquire_for_polls(START + 2.0, 9) == 1


def test_without_overdue_polls_kickoffs_use_the_whole_rate():
    rate_limiter = RateLimiter(20.0)
    assert rate_limiter.acquire_for_polls(START, 0) == 0
    assert sum(rate_limiter.acquire(START + 0.05 * step) == 0.0 for step in range(1, 101)) == 100


def test_without_kickoffs_polls_use_the_whole_rate():
    rate_limiter = RateLimiter(20.0)
    assert sum(rate_limiter.acquire_for_polls(START + 0.05 * step, 9) for step in range(100)) == 100
    assert 0.049 < rate_limiter.seconds_until_permits(START + 0.05 * 99) < 0.051


def test_a_refusal_halves_the_rate_and_successes_raise_it_again():
    rate_limiter = RateLimiter(20.0)
    rate_limiter.on_throttled(START, START, None)
    assert (rate_limiter.per_second, rate_limiter.backing_off(START)) == (10.0, False)
    for second in range(1, 12):
        rate_limiter.on_response(START + second)
    assert rate_limiter.per_second == 20.0


def test_concurrent_refusals_lower_the_rate_once():
    rate_limiter = RateLimiter(20.0)
    for _ in range(FAILURES_UNTIL_BACKOFF - 1):
        rate_limiter.on_throttled(START, START + 0.1, None)
    assert rate_limiter.per_second == 10.0
    rate_limiter.on_throttled(START + 0.2, START + 0.3, None)
    assert rate_limiter.per_second == 5.0


def test_after_retry_after_a_single_call_tests_the_crew():
    rate_limiter = RateLimiter(1000.0)
    rate_limiter.on_throttled(START, START, 30.0)
    assert rate_limiter.backing_off(START + 29.0)
    assert rate_limiter.acquire(START + 29.0) == 1.0
    assert rate_limiter.acquire_for_polls(START + 29.0, 9) == 0
    assert rate_limiter.acquire_for_polls(START + 30.0, 9) == 1
    assert rate_limiter.acquire_for_polls(START + 31.0, 9) == 0
    assert 0.0 < rate_limiter.acquire(START + 31.0) < 1.0
    rate_limiter.on_response(START + 31.0)
    assert taken(rate_limiter, START + 31.5) > 1


def test_an_unused_test_call_is_passed_on():
    rate_limiter = RateLimiter(1000.0)
    rate_limiter.on_throttled(START, START, 1.0)
    assert rate_limiter.acquire(START + 1.0) == 0.0
    rate_limiter.return_permit()
    assert rate_limiter.acquire(START + 2.0) == 0.0


def test_a_test_call_without_a_response_does_not_block_forever():
    rate_limiter = RateLimiter(1000.0)
    rate_limiter.on_throttled(START, START, 1.0)
    assert rate_limiter.acquire(START + 1.0) == 0.0
    assert rate_limiter.acquire(START + 1.0 + PROBE_TIMEOUT - 0.1) > 0.0
    assert rate_limiter.acquire(START + 1.0 + PROBE_TIMEOUT) == 0.0


def test_one_long_retry_after_is_capped():
    rate_limiter = RateLimiter(20.0)
    rate_limiter.on_throttled(START, START, 86_400.0)
    assert not rate_limiter.backing_off(START + MAX_RETRY_AFTER)


def test_pauses_grow_while_the_crew_does_not_respond():
    rate_limiter, now, rests = RateLimiter(20.0), START, []
    for _ in range(12):
        rate_limiter.on_no_response(now, now)
        rests.append(rate_limiter.backing_off(now))
        now = next(now + 0.5 * step for step in range(20) if not rate_limiter.backing_off(now + 0.5 * step))
    assert rests == [False] * (FAILURES_UNTIL_BACKOFF - 1) + [True] * (13 - FAILURES_UNTIL_BACKOFF)
    assert now - START < (13 - FAILURES_UNTIL_BACKOFF) * MAX_BACKOFF


def test_a_kickoff_in_doubt_neither_lowers_nor_raises_the_rate():
    rate_limiter = RateLimiter(20.0)
    for _ in range(2 * FAILURES_UNTIL_BACKOFF):
        rate_limiter.on_no_response(START, START, counts=False)
    assert (rate_limiter.per_second, rate_limiter.backing_off(START)) == (20.0, False)
    rate_limiter.on_throttled(START, START, 1.0)
    assert rate_limiter.acquire(START + 1.0) == 0.0
    rate_limiter.on_no_response(START + 1.0, START + 1.5, counts=False)
    assert rate_limiter.backing_off(START + 1.6)


def test_a_low_rate_is_not_lowered_below_the_rate_of_recovery():
    rate_limiter = RateLimiter(0.1)
    for step in range(20):
        rate_limiter.on_throttled(START + step, START + step, None)
    assert rate_limiter.per_second == 0.1


def test_the_full_rate_returns_within_a_minute_of_the_last_refusal():
    caller = Caller(20.0)
    assert 195 < caller.call_for(10.0, refused=False) < 203
    assert caller.call_for(60.0, refused=True) < 40  # at the full rate, 1,200 calls would have failed
    caller.call_for(30.0, refused=False)
    assert caller.rate_limiter.per_second == 20.0
    assert 195 < caller.call_for(10.0, refused=False) < 203


def test_a_backoff_lasts_from_the_first_suspension_until_a_test_call_succeeds():
    rate_limiter = RateLimiter(20.0)
    assert rate_limiter.backoff(START) is None
    rate_limiter.on_throttled(START, START, 30.0)
    assert rate_limiter.backoff(START + 29.0) == Backoff(START, START + 30.0)
    assert rate_limiter.acquire(START + 30.0) == 0.0
    assert rate_limiter.backoff(START + 30.0) == Backoff(START, None)
    rate_limiter.on_throttled(START + 30.0, START + 31.0, 30.0)
    assert rate_limiter.backoff(START + 31.0) == Backoff(START, START + 61.0)
    assert rate_limiter.acquire(START + 61.0) == 0.0
    rate_limiter.on_response(START + 62.0)
    assert rate_limiter.backoff(START + 62.0) is None


def test_five_calls_in_a_row_without_a_response_show_that_a_crew_is_unresponsive():
    rate_limiter = RateLimiter(20.0)
    for second in range(4):
        rate_limiter.on_no_response(START + second, START + second)
    assert rate_limiter.unresponsive_since(START + 4) is None
    for second in range(4, 9):
        rate_limiter.on_no_response(START + second, START + second, counts=False)
    assert rate_limiter.unresponsive_since(START + 8) == START
    assert rate_limiter.unresponsive_since(START + 8 + SILENCE_TTL) is None, "nothing has been tried for too long"


def test_any_response_shows_that_a_crew_is_responsive():
    for respond in (RateLimiter.on_response, lambda limiter, now: limiter.on_throttled(now, now, None)):
        rate_limiter = RateLimiter(20.0)
        for second in range(5):
            rate_limiter.on_no_response(START + second, START + second)
        respond(rate_limiter, START + 5)
        assert rate_limiter.unresponsive_since(START + 5) is None
