"""What becomes of a delivery after an attempt."""

from dataclasses import replace

from bridge.core.delivering import Confirmed, Gone, TryAgain, on_delivery
from bridge.core.model import Channel, DeliveryState
from tests.fakes import NOW, a_delivery


def test_a_confirmed_delivery_is_delivered_and_its_old_trouble_forgotten():
    settled = on_delivery(replace(a_delivery(), attempts=2, last_error="HTTP 500"), Confirmed(), NOW + 5)
    assert (settled.state, settled.attempts) == (DeliveryState.DELIVERED, 3)
    assert (settled.delivered_at, settled.last_error) == (NOW + 5, None)


def test_a_receiver_that_is_gone_ends_it_at_once():
    settled = on_delivery(a_delivery(), Gone("HTTP 410"), NOW)
    assert (settled.state, settled.attempts, settled.last_error) == (DeliveryState.DEAD, 1, "HTTP 410")


def test_a_failure_is_tried_again_later():
    settled = on_delivery(a_delivery(), TryAgain("HTTP 503", after=77.0), NOW)
    assert (settled.state, settled.attempts, settled.last_error) == (DeliveryState.PENDING, 1, "HTTP 503")
    assert settled.due_at == NOW + 77.0


def test_the_tenth_failure_of_a_callback_kills_it():
    delivery, moments = a_delivery(), []
    while delivery.state is DeliveryState.PENDING:
        moments.append(delivery.due_at)
        delivery = on_delivery(delivery, TryAgain("no connection"), delivery.due_at)
    assert (delivery.state, delivery.attempts, len(moments)) == (DeliveryState.DEAD, 10, 10)
    assert delivery.last_error == "no connection"


def test_the_results_exchange_is_never_given_up():
    delivery = replace(a_delivery(channel=Channel.EXCHANGE), attempts=10_000)
    assert on_delivery(delivery, TryAgain("unroutable"), NOW).state is DeliveryState.PENDING


def test_the_event_itself_never_changes():
    delivery = a_delivery()
    for answer in (Confirmed(), Gone("x"), TryAgain("y")):
        assert on_delivery(delivery, answer, NOW).event is delivery.event
