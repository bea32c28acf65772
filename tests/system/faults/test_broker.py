"""A broker under an alarm, and one whose queues and exchanges were deleted or declared otherwise."""

import asyncio
from contextlib import suppress
from functools import partial

import pytest
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from tests.broker import Broker
from tests.system.acceptance.harness import RESULTS, bind_results, channel, eventually
from tests.system.faults.conftest import SetScene
from tests.system.faults.harness import Scene, requests

pytestmark = pytest.mark.timeout(3600)


async def test_an_alarm_of_the_broker_accumulates_no_copies(scene: SetScene, node: Broker, full: bool) -> None:
    """M6: during the alarm nothing is confirmed, and everything published arrives after it."""
    times, count = (10, 200) if full else (1, 100)
    async with scene("M6") as now:
        await now.victim.start()
        for number in range(times):
            await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", "0")
            now.tally.faults += 1
            now.submit(requests(count, start=number * count))
            await eventually(now.not_ready, "the alarm is noticed")
            await asyncio.sleep(20 if full else 5)  # during which every attempt would leave a copy
            await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", "0.6")
            await now.ready_again()
            await now.come_to_rest()
        await now.apply()

    assert now.tally.in_doubt == 0
    assert now.tally.duplicates <= 2 * count * times, "each event costs one more attempt, not one per retry"


async def test_deleted_queues_exchanges_and_bindings_are_restored(scene: SetScene, amqp: str, full: bool) -> None:
    """M7: queue and exchange deleted, bindings removed, the queue declared with other arguments."""
    times = 10 if full else 1
    async with scene("M7") as now:
        await now.victim.start()
        for number in range(times):
            await delete_queue(now, amqp)
            await delete_exchange(now, amqp)
            await declare_otherwise(now, amqp)
            await remove_requests_binding(now, amqp)
            await remove_results_binding(now, amqp)
            await now.publish(requests(10, start=number * 10))
            await now.come_to_rest()
        await now.apply()

    assert now.tally.in_doubt == 0


async def delete_queue(now: Scene, amqp: str) -> None:
    lost = now.victim.log_events()["broker_lost"]
    async with channel(amqp) as ch:
        await ch.queue_delete("kickoff.requests")
    await noticed(now, lost)


async def delete_exchange(now: Scene, amqp: str) -> None:
    """Noticed with the next event; the binding of the test's queue is deleted with the exchange."""
    lost = now.victim.log_events()["broker_lost"]
    async with channel(amqp) as ch:
        await ch.exchange_delete("kickoff.results")
    await now.publish_one()
    await noticed(now, lost)
    await bind_results(amqp)


async def declare_otherwise(now: Scene, amqp: str) -> None:
    async with channel(amqp) as ch:
        await ch.queue_delete("kickoff.requests")
    await eventually(lambda: _won(amqp), "the queue is there with other arguments")
    await eventually(now.not_ready, "the bridge reports that it cannot consume")
    now.tally.faults += 1
    async with channel(amqp) as ch:
        await ch.queue_delete("kickoff.requests")
    await now.ready_again()


async def remove_requests_binding(now: Scene, amqp: str) -> None:
    """The broker reports nothing; producers with `mandatory` see returns until the binding is restored."""
    async with channel(amqp) as ch:
        queue = await ch.get_queue("kickoff.requests")
        await queue.unbind("kickoff.requests", "#")
    now.tally.faults += 1
    await now.publish_one()


async def remove_results_binding(now: Scene, amqp: str) -> None:
    """Only the operator can restore a queue's binding; until then events wait, and are shown as waiting."""
    async with channel(amqp) as ch:
        queue = await ch.get_queue(RESULTS)
        await queue.unbind("kickoff.results", "#")
    now.tally.faults += 1
    await now.publish_one()
    await eventually(partial(an_event_waits, now), "an event that no queue takes is shown")
    await bind_results(amqp)


async def an_event_waits(now: Scene) -> bool:
    _, waiting = await now.victim.get("/v1/deliveries?state=pending&limit=10")
    return any("no queue" in str(one["last_error"]) for one in waiting["deliveries"])


async def _won(amqp: str) -> bool:
    """Whether this test declared the queue; the bridge declares it too, and the first one wins."""
    with suppress(AMQPError, ChannelInvalidStateError):
        async with channel(amqp) as ch:
            await ch.queue_delete("kickoff.requests")
            await ch.declare_queue("kickoff.requests", durable=True, arguments={"x-max-length": 7})
            return True
    return False


async def noticed(now: Scene, lost: int) -> None:
    async def met() -> bool:
        return now.victim.log_events()["broker_lost"] > lost

    await eventually(met, "the loss is noticed")
    now.tally.faults += 1
    await now.ready_again()
