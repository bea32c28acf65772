"""The broker and its connections: killed, frozen, reset, silent; and producers that send everything several times."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.broker import Broker
from tests.system.acceptance.harness import eventually, publish
from tests.system.faults.conftest import OpenScenario
from tests.system.faults.harness import Scenario, requests
from tests.system.faults.proxy import Proxy, proxy_to

pytestmark = pytest.mark.timeout(3600)

QUEUE_IS_SAFE_AFTER = 4.0  # seconds; RabbitMQ 3.10 killed earlier never responds again for such a new quorum queue
NOTICED_WITHIN = 38.0  # three heartbeats of 10 s and a margin, on an idle machine


@pytest.fixture
async def link(node: Broker) -> AsyncIterator[Proxy]:
    async with proxy_to("127.0.0.1", node.port) as proxy:
        yield proxy


def through(link: Proxy, amqp: str, node: Broker) -> str:
    return amqp.replace(f":{node.port}/", f":{link.port}/")


async def test_a_killed_broker_loses_nothing_confirmed(open_scenario: OpenScenario, node: Broker, full: bool) -> None:
    """M3: 30 kills of the broker, 10,000 messages."""
    kills, count = (30, 10_000) if full else (2, 200)
    async with open_scenario("M3") as scenario:
        await scenario.daemon.start()
        await asyncio.sleep(QUEUE_IS_SAFE_AFTER)
        producing = asyncio.create_task(scenario.publish(requests(count)))
        for _ in range(kills):
            await asyncio.sleep(scenario.rng.uniform(0.5, 3.0))
            await asyncio.to_thread(node.kill)
            scenario.tally.faults += 1
            await asyncio.to_thread(node.start)
            await scenario.ready_again()
        await producing
        await scenario.apply()

    assert scenario.tally.in_doubt == 0, "a POST to the crew has nothing to do with the broker"


@pytest.mark.nightly
async def test_a_silent_connection_is_noticed_and_replaced(
    open_scenario: OpenScenario, link: Proxy, node: Broker, amqp: str, full: bool
) -> None:
    """M4: no byte passes and nothing closes, as with a frozen broker or a firewall that forgot the connection."""
    times = 20 if full else 1
    async with open_scenario("M4", bridge_amqp=through(link, amqp, node)) as scenario:
        await scenario.daemon.start()
        for number in range(times):
            link.go_silent()
            scenario.tally.faults += 1
            began = time.monotonic()
            await eventually(scenario.not_ready, "the silence is noticed")
            assert not full or time.monotonic() - began < NOTICED_WITHIN
            await scenario.publish(requests(20, start=number * 20))
            link.speak_again()
            await scenario.ready_again()
            await scenario.come_to_rest()  # events that met several silences would wait longer each time
        await scenario.apply()


async def test_connections_reset_every_second_abort_no_post(
    open_scenario: OpenScenario, link: Proxy, node: Broker, amqp: str, full: bool
) -> None:
    """M5: every connection is reset once a second; POSTs continue."""
    cuts, count = (120, 3000) if full else (5, 200)
    async with open_scenario("M5", kickoff_delay=0.3, bridge_amqp=through(link, amqp, node)) as scenario:
        await scenario.daemon.start()
        producing = asyncio.create_task(scenario.publish(requests(count)))
        for _ in range(cuts):
            await asyncio.sleep(1.0)
            scenario.tally.faults += link.cut()
        await producing
        await scenario.apply()

    assert scenario.tally.in_doubt == 0


async def test_messages_sent_up_to_five_times_over_http_and_amqp_are_one_run_each(
    open_scenario: OpenScenario, amqp: str, full: bool
) -> None:
    """M18: keys belong to the sender, so the copies of one request use one protocol."""
    count = 2000 if full else 100
    async with open_scenario("M18") as scenario:
        await scenario.daemon.start()
        requested = requests(count)
        copies = [one for one in requested for _ in range(scenario.rng.randint(0, 4))]
        scenario.tally.faults = len(copies)
        scenario.rng.shuffle(copies)
        await asyncio.gather(scenario.publish(requested), publish(amqp, copies, retry=True))
        await by_http(scenario, count)
        await scenario.apply()


async def by_http(scenario: Scenario, count: int) -> None:
    requested = requests(count, start=count)
    scenario.submit(requested)
    scenario.submit_copies(requested)
    await asyncio.gather(*scenario.producers)
