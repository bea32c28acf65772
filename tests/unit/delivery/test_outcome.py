"""The outcome of a delivery attempt."""

import hashlib
from dataclasses import replace
from functools import partial

import pytest

from bridge.core.delivery.model import Channel, DeliveryState, Receiver
from bridge.core.delivery.outcome import (
    Confirmed,
    DeliveryRules,
    Retryable,
    Undeliverable,
    Unroutable,
    Withheld,
    outcome_of_attempt,
)
from tests.fakes import NOW, a_delivery


def test_a_confirmed_delivery_is_delivered_without_its_earlier_error():
    written = outcome_of_attempt(
        replace(a_delivery(), attempts=2, last_error="HTTP 500"), Confirmed(), NOW + 5
    ).delivery
    assert (written.state, written.attempts) == (DeliveryState.DELIVERED, 3)
    assert (written.delivered_at, written.last_error) == (NOW + 5, None)


def test_a_receiver_that_is_gone_ends_the_delivery_at_once():
    written = outcome_of_attempt(a_delivery(), Undeliverable("HTTP 410"), NOW).delivery
    assert (written.state, written.attempts, written.last_error) == (DeliveryState.DEAD, 1, "HTTP 410")


def test_a_failed_delivery_is_retried_later():
    written = outcome_of_attempt(a_delivery(), Retryable("HTTP 503", after=77.0), NOW).delivery
    assert (written.state, written.attempts, written.last_error) == (DeliveryState.PENDING, 1, "HTTP 503")
    assert written.due_at == NOW + 77.0


def test_a_callback_is_dead_after_ten_failures():
    delivery, moments = a_delivery(), []
    while delivery.state is DeliveryState.PENDING:
        moments.append(delivery.due_at)
        delivery = outcome_of_attempt(delivery, Retryable("no connection"), delivery.due_at).delivery
    assert (delivery.state, delivery.attempts, len(moments)) == (DeliveryState.DEAD, 10, 10)
    assert delivery.last_error == "no connection"


def test_a_delivery_that_was_withheld_keeps_its_schedule_and_says_nothing_about_its_receiver():
    delivery = replace(a_delivery(), receiver=Receiver("https://shop.example:443", failing_since=0.0))
    while delivery.state is DeliveryState.PENDING:
        outcome = outcome_of_attempt(delivery, Withheld("not named"), NOW)
        assert (outcome.receiver, outcome.notices) == (None, ())
        delivery = outcome.delivery
    assert (delivery.state, delivery.attempts, delivery.last_error) == (DeliveryState.DEAD, 10, "not named")


def test_deliveries_to_the_results_exchange_never_expire():
    delivery = replace(a_delivery(channel=Channel.EXCHANGE), attempts=10_000)
    assert outcome_of_attempt(delivery, Unroutable("no queue"), NOW).delivery.state is DeliveryState.PENDING


def test_the_event_never_changes():
    delivery = a_delivery()
    for response in (Confirmed(), Undeliverable("x"), Retryable("y")):
        assert outcome_of_attempt(delivery, response, NOW).delivery.event is delivery.event


HOUR = 3600.0
DELAYS = [5.0, 300.0, 1800.0, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR]


@pytest.mark.parametrize("response", [Retryable("HTTP 302"), Retryable("HTTP 500"), Retryable("timed out")])
def test_the_times_of_all_ten_attempts_are_exact(response: Retryable):
    """The documented delays with a jitter of up to a fifth, computed from the delivery and the attempt."""
    delivery, expected, moments = a_delivery(), NOW, list[float]()
    while delivery.state is DeliveryState.PENDING:
        moments.append(delivery.due_at)
        delivery = outcome_of_attempt(delivery, response, delivery.due_at).delivery
    for attempt, (moment, pause) in enumerate(zip(moments, [*DELAYS, 0.0], strict=True), start=1):
        assert moment == expected
        digest = hashlib.blake2b(f"{delivery.delivery_id}:{attempt}".encode(), digest_size=8).digest()
        expected += pause * (0.8 + 0.4 * (int.from_bytes(digest, "big") / 2**64))
    assert moments[1] - NOW == pytest.approx(5.0, rel=0.2)
    assert moments[-1] - NOW == pytest.approx(75.6 * HOUR, rel=0.2)


def test_a_redelivery_restarts_the_schedule():
    delivery = replace(a_delivery(), attempts=10, earlier_attempts=10)
    for attempt in range(11, 20):
        delivery = outcome_of_attempt(delivery, Retryable("HTTP 500"), NOW).delivery
        assert (delivery.state, delivery.attempts) == (DeliveryState.PENDING, attempt)
    assert outcome_of_attempt(delivery, Retryable("HTTP 500"), NOW).delivery.state is DeliveryState.DEAD


def test_an_event_that_no_queue_accepts_is_dead_after_a_while():
    """The pauses of 2, 4, 8 s … count from the last redelivery; a failing broker does not count."""
    pending = a_delivery(channel=Channel.EXCHANGE)
    unroutable = partial(outcome_of_attempt, now=NOW, rules=DeliveryRules(unroutable_after=30.0))
    states = []
    for _ in range(6):
        pending = unroutable(pending, Unroutable("unroutable")).delivery
        states.append(pending.state)
    assert states == [DeliveryState.PENDING] * 4 + [DeliveryState.DEAD] * 2
    again = replace(pending, state=DeliveryState.PENDING, earlier_attempts=pending.attempts)
    assert unroutable(again, Unroutable("unroutable")).delivery.state is DeliveryState.PENDING
    failed = unroutable(replace(again, earlier_attempts=0), Retryable("the broker is unavailable")).delivery
    assert failed.state is DeliveryState.PENDING
