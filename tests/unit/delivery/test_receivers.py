"""Receivers of callbacks: identity, concurrency limits, and pauses."""

import json

import pytest

from bridge.core.delivery.model import Attempt, Channel, Delivery, Destination, Event, Receiver
from bridge.core.delivery.outcome import (
    CallbackReply,
    Confirmed,
    DeliveryRules,
    Retryable,
    Undeliverable,
    outcome_of_attempt,
)
from bridge.core.delivery.receivers import PAUSE_AFTER, ConcurrencyLimits, receiver_name
from tests.fakes import NOW

DAY = 86_400.0
NAME = "https://shop.example:443"


def to_shop(known: Receiver | None = None, crew: str | None = "research") -> Delivery:
    event = Event("run-succeeded", "run.succeeded", b"{}", "application/json", NOW, crew=crew)
    return Delivery("run-succeeded-1", event, Destination(Channel.CALLBACK, "https://shop.example/a?b"), receiver=known)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://shop.example/a?b#c", NAME),
        ("HTTPS://Shop.Example:443", NAME),
        ("https://shop.example:8443/", "https://shop.example:8443"),
        ("http://shop.example/", "http://shop.example:80"),
        ("https://[2001:DB8::1]/", "https://[2001:db8::1]:443"),
        ("https://[broken", "https://[broken"),
    ],
)
def test_urls_with_one_scheme_host_and_port_have_one_receiver(url: str, name: str):
    assert receiver_name(Destination(Channel.CALLBACK, url)) == name


@pytest.mark.parametrize("channel", [Channel.EXCHANGE, Channel.QUEUE, Channel.DEAD_LETTER])
def test_broker_deliveries_have_no_receiver(channel: Channel):
    assert receiver_name(Destination(channel, "https://shop.example")) is None


def test_half_of_the_slots_are_reserved_for_working_receivers():
    assert [ConcurrencyLimits(slots).unproven_total for slots in (200, 3, 1)] == [100, 1, 1]
    assert [ConcurrencyLimits(200).per_receiver(proven=proven) for proven in (True, False)] == [8, 1]


def test_the_first_success_marks_a_receiver_as_working():
    assert outcome_of_attempt(to_shop(), Confirmed(), NOW).receiver == Receiver(NAME)


def test_a_success_ends_a_series_of_failures_and_a_pause():
    assert outcome_of_attempt(to_shop(Receiver(NAME, NOW - DAY, NOW)), Confirmed(), NOW).receiver == Receiver(NAME)


def test_another_success_changes_nothing():
    assert outcome_of_attempt(to_shop(Receiver(NAME)), Confirmed(), NOW).receiver is None


@pytest.mark.parametrize("known", [None, Receiver(NAME)])
def test_the_first_failure_is_recorded(known: Receiver | None):
    assert outcome_of_attempt(to_shop(known), Retryable("HTTP 500"), NOW).receiver == Receiver(NAME, failing_since=NOW)


def test_another_failure_changes_nothing_within_five_days():
    failing = Receiver(NAME, failing_since=NOW)
    assert outcome_of_attempt(to_shop(failing), Retryable("HTTP 500"), NOW + PAUSE_AFTER - 1).receiver is None
    written = outcome_of_attempt(to_shop(failing), Retryable("HTTP 500"), NOW + PAUSE_AFTER)
    assert written.receiver == Receiver(NAME, NOW, paused_at=NOW + PAUSE_AFTER)
    assert written.delivery.paused


def test_a_forbidden_address_does_not_count_against_its_receiver():
    response = Undeliverable("address not permitted")
    assert outcome_of_attempt(to_shop(Receiver(NAME, NOW - 9 * DAY)), response, NOW).receiver is None


def test_a_receiver_that_answers_gone_is_alive():
    """A failure days later was its first one since, and paused it."""
    gone = Undeliverable("HTTP 410", CallbackReply(410))
    assert outcome_of_attempt(to_shop(Receiver(NAME, NOW - DAY)), gone, NOW).receiver == Receiver(NAME)
    assert outcome_of_attempt(to_shop(Receiver(NAME)), gone, NOW).receiver is None


def test_a_pause_is_announced_on_the_results_exchange():
    now = NOW + PAUSE_AFTER
    [notice] = outcome_of_attempt(to_shop(Receiver(NAME, NOW)), Retryable("HTTP 500"), now).notices
    event = json.loads(notice.event.body)
    assert notice.destination == Destination(Channel.EXCHANGE, "research.delivery.paused")
    assert (event["type"], event["subject"], event["source"]) == ("delivery.paused", NAME, "/crews/research")
    assert event["data"] == {
        "receiver": NAME,
        "crew": "research",
        "failing_since": "2027-01-15T08:00:00.000Z",
        "paused_at": "2027-01-20T08:00:00.000Z",
        "last_error": "HTTP 500",
    }


@pytest.mark.parametrize(
    ("template", "key"), [("eu.{event}.{crew}.{meta.tier}", "eu.delivery.paused.research._"), (None, None)]
)
def test_a_notice_has_a_routing_key_as_the_settings_say(template: str | None, key: str | None):
    """It had the default one, which a queue bound for the template of the settings did not receive."""
    rules = DeliveryRules(notice_key=template)
    outcome = outcome_of_attempt(to_shop(Receiver(NAME, NOW)), Retryable("x"), NOW + PAUSE_AFTER, rules=rules)
    assert [notice.destination.target for notice in outcome.notices] == ([] if key is None else [key])
    assert outcome.delivery.paused


def test_two_attempts_that_find_the_same_pause_announce_one_event():
    """Its id is made of the receiver and the time of its first failure."""
    found = [
        outcome_of_attempt(to_shop(Receiver(NAME, NOW), crew), Retryable("x"), NOW + PAUSE_AFTER + late)
        for late, crew in enumerate(["research", None])
    ]
    ids = {notice.event.event_id for outcome in found for notice in outcome.notices}
    assert len(ids) == 1
    assert "." not in ids.pop()


def test_an_attempt_keeps_up_to_a_kilobyte_of_the_response():
    written = outcome_of_attempt(
        to_shop(), Retryable("HTTP 500", reply=CallbackReply(500, b"x" * 5000)), NOW, seconds=2.5
    )
    assert written.attempt == Attempt(1, NOW - 2.5, 2.5, "HTTP 500", 500, b"x" * 1024)


def test_an_attempt_without_a_response_keeps_its_error():
    assert outcome_of_attempt(to_shop(), Retryable("no connection"), NOW).attempt == Attempt(
        1, NOW, 0.0, "no connection"
    )
