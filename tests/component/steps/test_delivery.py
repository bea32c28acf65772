"""Handing events over until they are confirmed, and keeping the store tidy."""

import pytest
from structlog.testing import capture_logs

from bridge.core.crew.responses import Refused
from bridge.core.delivery.model import Attempt, Delivery, DeliveryState
from bridge.core.delivery.outcome import CallbackReply, Retryable, SendResult, Undeliverable
from bridge.core.runs.model import Run
from bridge.steps.delivery import DeliverEvents
from bridge.steps.maintenance import housekeeping as sweep_module
from tests.component.steps.conftest import Bench
from tests.fakes import NOW, FakeSender


async def ended(bench: Bench) -> Run:
    """A run whose final event waits for two destinations."""
    bench.api.kickoff_answers = [Refused("no")]
    return await bench.started()


async def states(bench: Bench, run: Run) -> list[DeliveryState]:
    return [delivery.state for delivery in await bench.store.deliveries_for_run(run.run_id)]


async def test_everyone_who_asked_gets_the_same_bytes(bench: Bench):
    run = await ended(bench)
    await bench.round(bench.deliver)
    assert len({delivery.destination for delivery in bench.sender.sent}) == 2
    assert len({delivery.event.body for delivery in bench.sender.sent}) == 1
    assert await states(bench, run) == [DeliveryState.DELIVERED] * 2
    assert await bench.round(bench.deliver) == []


async def test_when_a_delivery_was_confirmed_is_kept(bench: Bench):
    run = await ended(bench)
    bench.clock.forward(3)
    await bench.round(bench.deliver)
    bench.clock.forward(60)
    kept = [delivery.delivered_at for delivery in await bench.store.deliveries_for_run(run.run_id)]
    assert kept == [bench.clock() - 60] * 2


async def test_what_failed_is_sent_again_with_the_same_id_and_bytes(bench: Bench):
    run = await ended(bench)
    bench.sender.responses = [Retryable("HTTP 500"), Retryable("HTTP 500")]
    await bench.round(bench.deliver)
    assert await bench.round(bench.deliver) == []
    bench.clock.forward(10)
    await bench.round(bench.deliver)
    assert len(bench.sender.sent) == 4
    assert len({(sent.event.event_id, sent.event.body) for sent in bench.sender.sent}) == 1
    assert await states(bench, run) == [DeliveryState.DELIVERED] * 2


async def test_while_the_way_out_is_closed_nothing_is_claimed_and_no_attempt_is_lost(bench: Bench):
    run = await ended(bench)
    bench.sender.ready = False
    spy = bench.spy()
    assert await bench.round(bench.deliver) == []
    assert spy.calls == []
    bench.sender.ready = True
    await bench.round(bench.deliver)
    assert [delivery.attempts for delivery in await bench.store.deliveries_for_run(run.run_id)] == [1, 1]


async def test_what_is_given_up_is_kept(bench: Bench):
    run = await ended(bench)
    bench.sender.responses = [Undeliverable("HTTP 410"), Undeliverable("HTTP 410")]
    await bench.round(bench.deliver)
    dead = await bench.store.deliveries_for_run(run.run_id)
    assert {(delivery.state, delivery.last_error) for delivery in dead} == {(DeliveryState.DEAD, "HTTP 410")}


async def failing_for_days(bench: Bench) -> Run:
    """A run whose callback fails; five days later everything is due and fails once more."""
    run = await ended(bench)
    for _ in range(2):
        bench.sender.responses = [Retryable("HTTP 500"), Retryable("HTTP 500")]
        await bench.round(bench.deliver)
        bench.clock.forward(5 * 86_400)
    return run


async def test_a_receiver_that_failed_for_five_days_is_announced_once(bench: Bench):
    await failing_for_days(bench)
    await bench.round(bench.deliver)
    sent = [delivery.event.type for delivery in bench.sender.sent]
    assert sent.count("delivery.paused") == 1


async def test_without_a_results_exchange_nobody_is_told_but_the_log(bench: Bench):
    claim = bench.deliver._claim
    step = DeliverEvents(
        "d", claim, bench.sender, bench.store, bench.clock, bench.signals["deliver"], results_exchange=False
    )
    await ended(bench)
    for _ in range(3):
        bench.sender.responses = [Retryable("HTTP 500"), Retryable("HTTP 500")]
        await bench.round(step)
        bench.clock.forward(5 * 86_400)
    assert "delivery.paused" not in {delivery.event.type for delivery in bench.sender.sent}


async def test_a_finished_callback_makes_its_place_free_at_once(bench: Bench):
    await ended(bench)
    before = len(bench.signals["deliver"].calls)
    await bench.round(bench.deliver)
    assert len(bench.signals["deliver"].calls) == before + 1


async def test_every_attempt_is_kept_with_its_time_and_how_long_it_took(bench: Bench):
    run = await ended(bench)

    class Slow(FakeSender):
        async def send(self, delivery: Delivery) -> SendResult:
            bench.clock.forward(1.5)
            return await super().send(delivery)

    bench.sender = Slow(responses=[Retryable("HTTP 500", reply=CallbackReply(500, b"no"))])
    await bench.round(bench.deliver, room=1)
    found = [
        await bench.store.attempts_for_delivery(one.delivery_id)
        for one in await bench.store.deliveries_for_run(run.run_id)
    ]
    [attempt] = [attempt for attempts in found for attempt in attempts]
    assert attempt == Attempt(1, NOW, 1.5, "HTTP 500", 500, b"no")


async def test_one_round_beats_buries_and_forgets(bench: Bench):
    sweep = bench.housekeeping
    assert await bench.round(sweep) == [NOW]
    assert await bench.round(sweep) == []
    assert sweep.pause() == 2.0
    bench.clock.forward(2)
    assert await sweep.claim(0) == []
    assert await bench.round(sweep) == [NOW + 2]


async def test_old_runs_are_forgotten_once_nothing_is_left_to_deliver(bench: Bench):
    run = await ended(bench)
    sweep = bench.housekeeping
    bench.clock.forward(86_401)
    await bench.round(sweep)
    assert await bench.store.load(run.run_id) is not None
    await bench.round(bench.deliver)
    bench.clock.forward(3)
    await bench.round(sweep)
    assert await bench.store.load(run.run_id) is None


async def test_as_long_as_there_are_many_old_runs_the_next_portion_follows_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sweep_module, "DELETE_BATCH", 2)
    runs = [await ended(bench) for _ in range(3)]
    await bench.round(bench.deliver)
    bench.clock.forward(86_401)
    sweep, left = bench.housekeeping, []
    while await bench.round(sweep):
        left.append(len([run for run in runs if await bench.store.load(run.run_id) is not None]))
    assert left == [1, 0]
    assert sweep.pause() == 2.0


async def test_a_process_that_was_given_up_begins_anew_and_owns_nothing(bench: Bench):
    run = await bench.started()
    await bench.store.expire_processes(NOW, -1.0)
    with capture_logs() as logs:
        await bench.round(bench.housekeeping)
    assert [entry for entry in logs if entry["event"] == "process_rejoined"] != []
    assert run.run_id not in bench.crew.tracker.queue
    await bench.round(bench.recover)
    assert (await bench.now(run)).owner == "me-2"
    assert run.run_id in bench.crew.tracker.queue


async def test_silent_processes_are_given_up_and_their_runs_looked_for(bench: Bench):
    sweep = bench.housekeeping
    await bench.rounds(sweep, seconds=20.0)
    await bench.another_process().join(bench.clock())
    await bench.rounds(sweep, seconds=9.0)
    assert bench.signals["recover"].calls == []
    await bench.rounds(sweep, seconds=2.0)
    assert bench.signals["recover"].calls == [""]


async def test_after_a_silence_of_its_own_a_process_first_listens(bench: Bench):
    """The database was away; the first one to be back must not take the others for dead."""
    sweep = bench.housekeeping
    await bench.rounds(sweep, seconds=20.0)
    other = bench.another_process()
    await other.join(bench.clock())
    bench.clock.forward(30.0)
    await bench.round(sweep)
    await other.heartbeat(bench.clock())  # and does not raise


def test_deliveries_are_looked_for_every_second(bench: Bench):
    assert bench.deliver.pause() == 1.0
