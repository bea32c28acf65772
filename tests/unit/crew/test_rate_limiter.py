"""How often a crew is called: one rate for all, kickoffs first, lowered by refusals, raised by answers."""

from bridge.core.crew.fair_share import FairShare, Membership
from bridge.core.crew.rate_limiter import (
    FAILURES_UNTIL_BACKOFF,
    MAX_BACKOFF,
    MAX_RETRY_AFTER,
    POLL_RESERVE,
    PROBE_TIMEOUT,
    RateLimiter,
)

START = 1_000.0


class Caller:
    """Calls as often as the pace permits, a hundred times a second it asks; `answer` says what the crew answers."""

    def __init__(self, per_second: float) -> None:
        self.rate_limiter = RateLimiter(per_second)
        self.now = START
        self.calls: list[float] = []

    def call_for(self, seconds: float, *, refused: bool) -> int:
        """How many calls there were."""
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
    """How many kickoffs may leave at this moment."""
    return next(count for count in range(most) if rate_limiter.acquire(now) > 0.0)


def test_calls_are_spaced_evenly_and_few_turns_that_were_not_taken_are_saved_up():
    rate_limiter = RateLimiter(20.0)
    assert rate_limiter.acquire(START) == 0.0
    assert rate_limiter.acquire(START) == 0.05
    assert rate_limiter.acquire(START + 0.05) == 0.0
    assert taken(rate_limiter, START + 100.0) == 1


def test_at_a_high_rate_some_turns_are_taken_together():
    rate_limiter = RateLimiter(1000.0)
    assert taken(rate_limiter, START) == 20
    assert taken(rate_limiter, START + 100.0) == 21


def test_processes_divide_the_rate():
    share = FairShare()
    share.update(Membership(4, 0, 0))
    assert RateLimiter(20.0, share).per_second == 5.0


def test_looks_wait_while_kickoffs_do_and_get_a_part_of_the_turns_all_the_same():
    rate_limiter, now, kickoffs, polls = RateLimiter(20.0), START, 0, 0
    rate_limiter.waiting = 1  # always one more
    for _ in range(1000):
        now += 0.01
        polls += rate_limiter.acquire_for_polls(now, 3)
        kickoffs += rate_limiter.acquire(now) == 0.0
    assert 195 <= kickoffs + polls <= 202
    assert POLL_RESERVE * 0.9 <= polls / kickoffs <= POLL_RESERVE * 1.1


def test_without_overdue_looks_kickoffs_have_all_turns():
    rate_limiter = RateLimiter(20.0)
    assert rate_limiter.acquire_for_polls(START, 0) == 0
    assert sum(rate_limiter.acquire(START + 0.05 * step) == 0.0 for step in range(1, 101)) == 100


def test_looks_have_all_turns_that_nobody_else_wants():
    rate_limiter = RateLimiter(20.0)
    assert sum(rate_limiter.acquire_for_polls(START + 0.05 * step, 9) for step in range(100)) == 100
    assert 0.049 < rate_limiter.seconds_until_polls(START + 0.05 * 99) < 0.051


def test_one_refusal_halves_the_rate_and_answers_raise_it_again():
    rate_limiter = RateLimiter(20.0)
    rate_limiter.on_throttled(START, START, None)
    assert (rate_limiter.per_second, rate_limiter.backing_off(START)) == (10.0, False)
    for second in range(1, 12):
        rate_limiter.on_response(START + second)
    assert rate_limiter.per_second == 20.0


def test_what_was_under_way_together_is_one_trouble():
    rate_limiter = RateLimiter(20.0)
    for _ in range(FAILURES_UNTIL_BACKOFF - 1):
        rate_limiter.on_throttled(START, START + 0.1, None)
    assert rate_limiter.per_second == 10.0
    rate_limiter.on_throttled(START + 0.2, START + 0.3, None)
    assert rate_limiter.per_second == 5.0


def test_nothing_is_sent_for_as_long_as_the_crew_asks_and_then_one_call_alone():
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


def test_a_lone_call_that_was_not_needed_leaves_its_place_to_another():
    rate_limiter = RateLimiter(1000.0)
    rate_limiter.on_throttled(START, START, 1.0)
    assert rate_limiter.acquire(START + 1.0) == 0.0
    rate_limiter.return_permit()
    assert rate_limiter.acquire(START + 2.0) == 0.0


def test_a_lone_call_that_is_never_answered_is_not_waited_for_for_ever():
    rate_limiter = RateLimiter(1000.0)
    rate_limiter.on_throttled(START, START, 1.0)
    assert rate_limiter.acquire(START + 1.0) == 0.0
    assert rate_limiter.acquire(START + 1.0 + PROBE_TIMEOUT - 0.1) > 0.0
    assert rate_limiter.acquire(START + 1.0 + PROBE_TIMEOUT) == 0.0


def test_no_single_answer_silences_a_crew_for_long():
    rate_limiter = RateLimiter(20.0)
    rate_limiter.on_throttled(START, START, 86_400.0)
    assert not rate_limiter.backing_off(START + MAX_RETRY_AFTER)


def test_a_crew_that_does_not_answer_is_left_alone_for_longer_and_longer():
    rate_limiter, now, rests = RateLimiter(20.0), START, []
    for _ in range(12):
        rate_limiter.on_no_response(now, now)
        rests.append(rate_limiter.backing_off(now))
        now = next(now + 0.5 * step for step in range(20) if not rate_limiter.backing_off(now + 0.5 * step))
    assert rests == [False] * (FAILURES_UNTIL_BACKOFF - 1) + [True] * (13 - FAILURES_UNTIL_BACKOFF)
    assert now - START < (13 - FAILURES_UNTIL_BACKOFF) * MAX_BACKOFF


def test_a_post_in_doubt_slows_nothing_down_but_is_no_proof_that_all_is_well_either():
    rate_limiter = RateLimiter(20.0)
    for _ in range(2 * FAILURES_UNTIL_BACKOFF):
        rate_limiter.on_no_response(START, START, counts=False)
    assert (rate_limiter.per_second, rate_limiter.backing_off(START)) == (20.0, False)
    rate_limiter.on_throttled(START, START, 1.0)
    assert rate_limiter.acquire(START + 1.0) == 0.0
    rate_limiter.on_no_response(START + 1.0, START + 1.5, counts=False)
    assert rate_limiter.backing_off(START + 1.6)


def test_a_slow_rate_is_not_lowered_to_where_nobody_would_notice_that_all_is_well():
    rate_limiter = RateLimiter(0.1)
    for step in range(20):
        rate_limiter.on_throttled(START + step, START + step, None)
    assert rate_limiter.per_second == 0.1


def test_a_crew_that_refuses_for_a_minute_has_its_full_rate_within_a_minute_after():
    caller = Caller(20.0)
    assert 195 < caller.call_for(10.0, refused=False) < 203
    assert caller.call_for(60.0, refused=True) < 40  # 1,200 would have been made in vain
    caller.call_for(30.0, refused=False)
    assert caller.rate_limiter.per_second == 20.0
    assert 195 < caller.call_for(10.0, refused=False) < 203
