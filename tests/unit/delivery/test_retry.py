"""Retries of deliveries: the schedule of each channel, and when the bridge stops retrying."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.core.delivery import retry
from bridge.core.delivery.model import Channel

NOW = 10_000.0
STANDARD_WEBHOOKS = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400]


@pytest.mark.parametrize(("failures", "delay"), list(enumerate(STANDARD_WEBHOOKS, start=1)))
def test_callbacks_follow_the_documented_schedule(failures: int, delay: float):
    due = retry.next_attempt_at("d", Channel.CALLBACK, failures, NOW, None)
    assert due is not None
    assert 0.8 * delay <= due - NOW <= 1.2 * delay


def test_a_callback_is_dead_after_its_tenth_failure():
    assert retry.next_attempt_at("d", Channel.CALLBACK, 10, NOW, None) is None
    assert retry.next_attempt_at("d", Channel.CALLBACK, 10, NOW, 60.0) is None


@pytest.mark.parametrize(("after", "wait"), [(3600.0, 3600.0), (86_400.0, 86_400.0), (10**9, 86_400.0)])
def test_retry_after_of_a_receiver_is_obeyed_up_to_a_day(after: float, wait: float):
    assert retry.next_attempt_at("d", Channel.CALLBACK, 1, NOW, after) == NOW + wait


@pytest.mark.parametrize(("failures", "delay"), [(1, 2), (4, 16), (11, 2048), (12, 3600), (10**6, 3600)])
@pytest.mark.parametrize("channel", [Channel.EXCHANGE, Channel.DEAD_LETTER])
def test_exchanges_and_dead_letter_queues_are_retried_without_limit(failures: int, delay: float, channel: Channel):
    due = retry.next_attempt_at("d", channel, failures, NOW, None)
    assert due is not None
    assert 0.8 * delay <= due - NOW <= 1.2 * delay


def test_a_reply_queue_is_retried_for_about_a_day():
    waits, failures = 0.0, 0
    while (due := retry.next_attempt_at("d", Channel.QUEUE, failures := failures + 1, NOW, None)) is not None:
        waits += due - NOW
    assert 20 * 3600 <= waits <= 28 * 3600


@given(st.text(max_size=12), st.integers(1, 10**6), st.sampled_from(list(Channel)), st.none() | st.floats(0, 1e12))
def test_retries_are_in_the_future_and_deterministic(key: str, count: int, channel: Channel, after: float | None):
    due = retry.next_attempt_at(key, channel, count, NOW, after)
    assert due == retry.next_attempt_at(key, channel, count, NOW, after)
    assert due is None or NOW < due <= NOW + 1.2 * 86_400
