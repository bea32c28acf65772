"""Delivery of events until they are confirmed."""

from bridge.core.delivery.model import Attempt, Delivery, DeliveryState
from bridge.core.delivery.outcome import CallbackReply, Retryable, SendResult, Undeliverable
from bridge.core.runs.model import Run
from tests.component.steps.conftest import Bench
from tests.fakes import NOW, FakeSender


async def states(bench: Bench, run: Run) -> list[DeliveryState]:
    return [delivery.state for delivery in await bench.store.queries.deliveries_for_run(run.run_id)]


async def test_every_destination_receives_the_same_bytes(bench: Bench):
    run = await bench.ended()
    await bench.deliver()
    assert len({delivery.destination for delivery in bench.sender.sent}) == 2
    assert len({delivery.event.body for delivery in bench.sender.sent}) == 1
    assert await states(bench, run) == [DeliveryState.DELIVERED] * 2
    assert await bench.deliver() == []


async def test_the_time_of_the_confirmation_is_stored(bench: Bench):
    run = await bench.ended()
    bench.clock.forward(3)
    await bench.deliver()
    bench.clock.forward(60)
    kept = [delivery.delivered_at for delivery in await bench.store.queries.deliveries_for_run(run.run_id)]
    assert kept == [bench.clock() - 60] * 2


async def test_a_failed_delivery_is_repeated_with_the_same_id_and_bytes(bench: Bench):
    run = await bench.ended()
    bench.sender.responses = [Retryable("HTTP 500"), Retryable("HTTP 500")]
    await bench.deliver()
    assert await bench.deliver() == []
    bench.clock.forward(10)
    await bench.deliver()
    assert len(bench.sender.sent) == 4
    assert len({(sent.event.event_id, sent.event.body) for sent in bench.sender.sent}) == 1
    assert await states(bench, run) == [DeliveryState.DELIVERED] * 2


async def test_while_the_sender_is_not_ready_no_delivery_is_claimed(bench: Bench):
    run = await bench.ended()
    bench.sender.ready = False
    spy = bench.spy()
    assert await bench.deliver() == []
    assert spy.calls == []
    bench.sender.ready = True
    await bench.deliver()
    assert [delivery.attempts for delivery in await bench.store.queries.deliveries_for_run(run.run_id)] == [1, 1]


async def test_a_dead_delivery_is_kept(bench: Bench):
    run = await bench.ended()
    bench.sender.responses = [Undeliverable("HTTP 410"), Undeliverable("HTTP 410")]
    await bench.deliver()
    dead = await bench.store.queries.deliveries_for_run(run.run_id)
    assert {(delivery.state, delivery.last_error) for delivery in dead} == {(DeliveryState.DEAD, "HTTP 410")}


async def failing_for_days(bench: Bench) -> Run:
    """A run whose callback fails; five days later everything is due and fails once more."""
    run = await bench.ended()
    for _ in range(2):
        bench.sender.responses = [Retryable("HTTP 500"), Retryable("HTTP 500")]
        await bench.deliver()
        bench.clock.forward(5 * 86_400)
    return run


async def test_a_receiver_that_failed_for_five_days_is_announced_once(bench: Bench):
    await failing_for_days(bench)
    await bench.deliver()
    sent = [delivery.event.type for delivery in bench.sender.sent]
    assert sent.count("delivery.paused") == 1


async def test_without_a_results_exchange_a_paused_receiver_is_only_logged(bench: Bench):
    bench.results_exchange = False
    await bench.ended()
    for _ in range(3):
        bench.sender.responses = [Retryable("HTTP 500"), Retryable("HTTP 500")]
        await bench.round(bench.send_callbacks)
        bench.clock.forward(5 * 86_400)
    assert "delivery.paused" not in {delivery.event.type for delivery in bench.sender.sent}


async def test_a_finished_callback_frees_its_slot_at_once(bench: Bench):
    await bench.ended()
    assert bench.notified("deliver-callbacks")
    await bench.deliver()
    assert bench.notified("deliver-callbacks")


async def test_every_attempt_is_stored_with_its_time_and_duration(bench: Bench):
    run = await bench.ended()

    class Slow(FakeSender):
        async def send(self, delivery: Delivery) -> SendResult:
            bench.clock.forward(1.5)
            return await super().send(delivery)

    bench.sender = Slow(responses=[Retryable("HTTP 500", reply=CallbackReply(500, b"no"))])
    await bench.round(bench.send_callbacks)
    found = [
        await bench.store.queries.attempts_for_delivery(one.delivery_id)
        for one in await bench.store.queries.deliveries_for_run(run.run_id)
    ]
    [attempt] = [attempt for attempts in found for attempt in attempts]
    assert attempt == Attempt(1, NOW, 1.5, "HTTP 500", 500, b"no")


def test_deliveries_are_claimed_every_second(bench: Bench):
    assert bench.publish.pause() == 1.0
