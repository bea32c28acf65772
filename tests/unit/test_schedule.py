"""When to look, when to try again, when to give up."""

import math
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.core import jitter
from bridge.core.delivery import retry
from bridge.core.delivery.model import Channel
from bridge.core.http import retry_after
from bridge.core.polling import intervals
from bridge.core.runs import timing
from bridge.core.runs.model import CrewPolicy, DoubtPolicy, TrackedRun
from tests.fakes import a_run

NOW = 10_000.0
POLICY = CrewPolicy()


def tracked(**values: float | None) -> TrackedRun:
    started_at, errors, polls = values.get("started_at"), values.get("errors", 0), values.get("polls", 0)
    return TrackedRun(
        "run", "c", "k", 600.0, NOW, started_at=started_at, errors=int(errors or 0), polls=int(polls or 0)
    )


@pytest.mark.parametrize(
    ("poll_min_interval", "poll_max_interval", "interval"),
    [(1, 60, 5), (10, 60, 10), (1, 2, 2), (0.1, 60, 5), (5, 5, 5)],
)
def test_steady_looks_are_held_between_the_crews_limits(
    poll_min_interval: float, poll_max_interval: float, interval: float
):
    assert (
        intervals.steady_interval(CrewPolicy(poll_min_interval=poll_min_interval, poll_max_interval=poll_max_interval))
        == interval
    )


@pytest.mark.parametrize("polls", range(0, 50, 7))
def test_looks_at_a_healthy_execution_stay_steady_however_many_there_were(polls: int):
    assert 4.5 <= intervals.execution_poll_at(tracked(polls=polls), POLICY, NOW, 5.0) - NOW <= 5.5


@pytest.mark.parametrize(("errors", "interval"), [(1, 10), (2, 20), (3, 40), (4, 60), (9, 60), (10_000, 60)])
def test_errors_make_looks_rarer_up_to_the_crews_limit(errors: int, interval: float):
    wait = intervals.execution_poll_at(tracked(errors=errors), POLICY, NOW, 5.0) - NOW
    assert 0.9 * interval <= wait <= 1.1 * interval


@pytest.mark.parametrize(("deadline", "interval"), [(3600.0, 60), (600.0, 60), (300.0, 30), (20.0, 5)])
def test_stretched_looks_are_as_rare_as_the_crew_allows_and_a_tenth_of_the_deadline(deadline: float, interval: float):
    wait = (
        intervals.execution_poll_at(replace(tracked(), deadline=deadline), POLICY, NOW, 5.0, at_fallback_interval=True)
        - NOW
    )
    assert 0.9 * interval <= wait <= 1.1 * interval


def test_a_rate_limit_is_obeyed_and_never_shortens_the_wait():
    assert intervals.execution_poll_at(tracked(), POLICY, NOW, 5.0, after=120.0) == NOW + 120.0
    assert intervals.execution_poll_at(tracked(), POLICY, NOW, 5.0, after=0.1) > NOW + 4


def test_the_last_look_is_made_when_the_deadline_passes():
    assert intervals.execution_poll_at(tracked(started_at=NOW - 597.0), POLICY, NOW, 5.0) == NOW + 3.0


def test_after_the_deadline_looks_go_on_at_their_interval():
    """The look at the deadline got no statement; only one that does may end the run."""
    assert intervals.execution_poll_at(tracked(started_at=NOW - 600.0), POLICY, NOW, 5.0) > NOW + 4


def test_many_runs_that_are_taken_up_at_once_are_spread_out():
    moments = [jitter.spread(f"run-{number}", NOW, 10.0) for number in range(200)]
    assert all(NOW <= moment < NOW + 10.0 for moment in moments)
    assert len({int(moment) for moment in moments}) == 10


@pytest.mark.parametrize(("attempt", "delay"), [(1, 2), (2, 4), (5, 32), (6, 60), (7, 60), (5000, 60)])
def test_refused_kickoffs_are_repeated_ever_more_slowly(attempt: int, delay: float):
    wait = timing.kickoff_again("run", attempt, NOW, None) - NOW
    assert 0.8 * delay <= wait <= 1.2 * delay


def test_a_kickoff_is_not_repeated_sooner_than_the_api_asked():
    assert timing.kickoff_again("run", 1, NOW, 300.0) == NOW + 300.0
    assert timing.kickoff_again("run", 9, NOW, 1.0) > NOW + 40.0


@pytest.mark.parametrize("policy", DoubtPolicy)
def test_every_policy_acts_when_evidence_was_waited_for_as_long_as_was_set(policy: DoubtPolicy):
    assert timing.evidence_due_at(CrewPolicy(in_doubt=policy, in_doubt_after=5.0), NOW) == NOW + 5.0


@pytest.mark.parametrize(
    ("age", "wait"), [(0, 60), (59, 60), (61, 61), (600, 600), (3600, 3600), (7200, 3600), (86_400, 3600)]
)
def test_the_longer_a_run_is_over_the_rarer_its_execution_is_looked_at(age: float, wait: float):
    assert timing.next_late_poll_at(replace(a_run(), finished_at=NOW), NOW + age) == NOW + age + wait


def test_after_a_day_an_execution_is_left_to_itself():
    assert timing.next_late_poll_at(replace(a_run(), finished_at=NOW), NOW + 86_401) is None


STANDARD_WEBHOOKS = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]


@pytest.mark.parametrize(("failures", "delay"), list(enumerate(STANDARD_WEBHOOKS, start=1)))
def test_callbacks_follow_the_promised_schedule(failures: int, delay: float):
    due = retry.deliver_again("d", Channel.CALLBACK, failures, NOW, None)
    assert due is not None
    assert 0.8 * delay <= due - NOW <= 1.2 * delay


def test_a_callback_is_dead_after_its_tenth_failure():
    assert retry.deliver_again("d", Channel.CALLBACK, 10, NOW, None) is None
    assert retry.deliver_again("d", Channel.CALLBACK, 10, NOW, 60.0) is None


@pytest.mark.parametrize(("after", "wait"), [(3600.0, 3600.0), (86_400.0, 86_400.0), (10**9, 86_400.0)])
def test_a_receivers_wish_is_obeyed_up_to_a_day(after: float, wait: float):
    assert retry.deliver_again("d", Channel.CALLBACK, 1, NOW, after) == NOW + wait


@pytest.mark.parametrize(("failures", "delay"), [(1, 2), (4, 16), (11, 2048), (12, 3600), (10**6, 3600)])
@pytest.mark.parametrize("channel", [Channel.EXCHANGE, Channel.DEAD_LETTER])
def test_what_is_the_operators_own_is_tried_for_ever(failures: int, delay: float, channel: Channel):
    due = retry.deliver_again("d", channel, failures, NOW, None)
    assert due is not None
    assert 0.8 * delay <= due - NOW <= 1.2 * delay


def test_a_reply_queue_is_given_up_after_about_a_day():
    waits, failures = 0.0, 0
    while (due := retry.deliver_again("d", Channel.QUEUE, failures := failures + 1, NOW, None)) is not None:
        waits += due - NOW
    assert 20 * 3600 <= waits <= 28 * 3600


SENT = "Tue, 24 Nov 2026 08:00:00 GMT"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("86401", 86_400.0),
        ("9" * 400, 86_400.0),
        ("0000000000030", 30.0),
        ("-1", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("٣", None),
        ("", None),
        ("soon", None),
        ("Tue, 24 Nov 2026 08:01:30 GMT", 90.0),
        ("Tue, 24 Nov 2026 08:00:00 GMT", None),
        ("Tue, 24 Nov 2026 07:59:00 GMT", None),
        ("Thu, 26 Nov 2026 08:00:00 GMT", 86_400.0),
        ("Tue, 99 Nov 2026 08:01:30 GMT", None),
        ("Tue, 24 Nov 99999999999999999999 08:01:30 GMT", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None):
    assert retry_after.parse_retry_after(header, SENT) == seconds


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_date_without_the_answers_own_date_means_nothing(date: str | None):
    assert retry_after.parse_retry_after("Tue, 24 Nov 2026 08:01:30 GMT", date) is None


@settings(max_examples=120)
@given(st.text(max_size=30) | st.text("0123456789:,-+ GMTueNov", max_size=34), st.none() | st.text(max_size=30))
@example("Mon, 01 Jan 0001 00:00:00 -0000", "Mon, 01 Jan 0001 00:00:00 -0000")
@example("Fri, 31 Dec 9999 23:59:59 -2359", SENT)
def test_any_header_gives_seconds_up_to_a_day_or_nothing(header: str, date: str | None):
    after = retry_after.parse_retry_after(header, date or SENT)
    assert after is None or (math.isfinite(after) and 0 <= after <= 86_400)


@settings(max_examples=60)
@given(st.text(max_size=12), st.integers(1, 10**6), st.sampled_from(list(Channel)), st.none() | st.floats(0, 1e12))
def test_what_is_tried_again_is_tried_later_and_always_at_the_same_time(
    key: str, count: int, channel: Channel, after: float | None
):
    due = retry.deliver_again(key, channel, count, NOW, after)
    assert due == retry.deliver_again(key, channel, count, NOW, after)
    assert due is None or NOW < due <= NOW + 1.2 * 86_400
