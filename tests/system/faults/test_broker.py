"""A broker under an alarm, and one whose queues and exchanges were deleted or declared otherwise."""

import asyncio
from contextlib import suppress
from functools import partial

import pytest
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from tests.broker import Broker
from tests.system.acceptance.harness import RESULTS, bind_results, channel, eventually
from tests.system.faults.conftest import OpenScenario
from tests.system.faults.harness import Scenario, requests

pytestmark = pytest.mark.timeout(3600)


@pytest.mark.nightly
async def test_an_alarm_of_the_broker_accumulates_no_copies(
    open_scenario: OpenScenario, node: Broker, full: bool
) -> None:
    """M6: during the alarm nothing is confirmed, and everything published arrives after it."""
    times, count = (10, 200) if full else (1, 100)
    async with open_scenario("M6") as scenario:
        await scenario.daemon.start()
        for number in range(times):
            await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", "0")
            scenario.tally.faults += 1
            scenario.submit(requests(count, start=number * count))
            await eventually(scenario.not_ready, "the alarm is noticed")
            await asyncio.sleep(20 if full else 5)  # during which every attempt would leave a copy
            await asyncio.to_thread(node.ctl, "set_vm_memory_high_watermark", "0.6")
            await scenario.ready_again()
            await scenario.come_to_rest()
        await scenario.apply()

    assert scenario.tally.in_doubt == 0
    assert scenario.tally.duplicates <= 2 * count * times, "each event costs one more attempt, not one per retry"


async def test_deleted_queues_exchanges_and_bindings_are_restored(
    open_scenario: OpenScenario, amqp: str, full: bool
) -> None:
    """M7: queue and exchange deleted, bindings removed, the queue declared with other arguments."""
    times = 10 if full else 1
    async with open_scenario("M7") as scenario:
        await scenario.daemon.start()
        for number in range(times):
            await delete_queue(scenario, amqp)
            await delete_exchange(scenario, amqp)
            await declare_otherwise(scenario, amqp)
            await remove_requests_binding(scenario, amqp)
            await remove_results_binding(scenario, amqp)
            await scenario.publish(requests(10, start=number * 10))
            await scenario.come_to_rest()
        await scenario.apply()

    assert scenario.tally.in_doubt == 0


async def delete_queue(scenario: Scenario, amqp: str) -> None:
    lost = scenario.daemon.log_events()["broker_disconnected"]
    async with channel(amqp) as ch:
        await ch.queue_delete("kickoff.requests")
    await noticed(scenario, lost)


async def delete_exchange(scenario: Scenario, amqp: str) -> None:
    """Noticed with the next event; the binding of the test's queue is deleted with the exchange."""
    lost = scenario.daemon.log_events()["broker_disconnected"]
    async with channel(amqp) as ch:
        await ch.exchange_delete("kickoff.results")
    await scenario.publish_one()
    await noticed(scenario, lost)
    await bind_results(amqp)


async def declare_otherwise(scenario: Scenario, amqp: str) -> None:
    async with channel(amqp) as ch:
        await ch.queue_delete("kickoff.requests")
    await eventually(lambda: _won(amqp), "the queue is there with other arguments")
    await eventually(scenario.not_ready, "the bridge reports that it cannot consume")
    scenario.tally.faults += 1
    async with channel(amqp) as ch:
        await ch.queue_delete("kickoff.requests")
    await scenario.ready_again()


async def remove_requests_binding(scenario: Scenario, amqp: str) -> None:
    """The broker reports nothing; producers with `mandatory` see returns until the binding is restored."""
    async with channel(amqp) as ch:
        queue = await ch.get_queue("kickoff.requests")
        await queue.unbind("kickoff.requests", "#")
    scenario.tally.faults += 1
    await scenario.publish_one()


async def remove_results_binding(scenario: Scenario, amqp: str) -> None:
    """Only the operator can restore a queue's binding; until then events wait, and are shown as waiting."""
    async with channel(amqp) as ch:
        queue = await ch.get_queue(RESULTS)
        await queue.unbind("kickoff.results", "#")
    scenario.tally.faults += 1
    await scenario.publish_one()
    await eventually(partial(an_event_waits, scenario), "an event that no queue takes is shown")
    await bind_results(amqp)


async def an_event_waits(scenario: Scenario) -> bool:
    _, waiting = await scenario.daemon.get("/v1/deliveries?state=pending&limit=10")
    return any("no queue" in str(one["last_error"]) for one in waiting["deliveries"])


async def _won(amqp: str) -> bool:
    """Whether this test declared the queue; the bridge declares it too, and the first one wins."""
    with suppress(AMQPError, ChannelInvalidStateError):
        async with channel(amqp) as ch:
            await ch.queue_delete("kickoff.requests")
            await ch.declare_queue("kickoff.requests", durable=True, arguments={"x-max-length": 7})
            return True
    return False


async def noticed(scenario: Scenario, lost: int) -> None:
    async def met() -> bool:
        return scenario.daemon.log_events()["broker_disconnected"] > lost

    await eventually(met, "the loss is noticed")
    scenario.tally.faults += 1
    await scenario.ready_again()
