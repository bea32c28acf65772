"""The broker and its connections: killed, frozen, reset, silent; and producers that send everything several times."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.broker import Broker
from tests.system.acceptance.harness import eventually, publish
from tests.system.faults.conftest import SetScene
from tests.system.faults.harness import Scene, requests
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


async def test_a_killed_broker_loses_nothing_confirmed(scene: SetScene, node: Broker, full: bool) -> None:
    """M3: 30 kills of the broker, 10,000 messages."""
    kills, count = (30, 10_000) if full else (2, 300)
    async with scene("M3") as now:
        await now.victim.start()
        await asyncio.sleep(QUEUE_IS_SAFE_AFTER)
        producing = asyncio.create_task(now.publish(requests(count)))
        for _ in range(kills):
            await asyncio.sleep(now.dice.uniform(0.5, 3.0))
            await asyncio.to_thread(node.kill)
            now.tally.faults += 1
            await asyncio.to_thread(node.start)
            await now.ready_again()
        await producing
        await now.apply()

    assert now.tally.in_doubt == 0, "a POST to the crew has nothing to do with the broker"


async def test_a_silent_connection_is_noticed_and_replaced(
    scene: SetScene, link: Proxy, node: Broker, amqp: str, full: bool
) -> None:
    """M4: no byte passes and nothing closes, as with a frozen broker or a firewall that forgot the connection."""
    times = 20 if full else 1
    async with scene("M4", bridge_amqp=through(link, amqp, node)) as now:
        await now.victim.start()
        for number in range(times):
            link.go_silent()
            now.tally.faults += 1
            began = time.monotonic()
            await eventually(now.not_ready, "the silence is noticed")
            assert not full or time.monotonic() - began < NOTICED_WITHIN
            await now.publish(requests(20, start=number * 20))
            link.speak_again()
            await now.ready_again()
            await now.come_to_rest()  # events that met several silences would wait longer each time
        await now.apply()


async def test_connections_reset_every_second_abort_no_post(
    scene: SetScene, link: Proxy, node: Broker, amqp: str, full: bool
) -> None:
    """M5: every connection is reset once a second; POSTs continue."""
    cuts, count = (120, 3000) if full else (8, 300)
    async with scene("M5", kickoff_delay=0.3, bridge_amqp=through(link, amqp, node)) as now:
        await now.victim.start()
        producing = asyncio.create_task(now.publish(requests(count)))
        for _ in range(cuts):
            await asyncio.sleep(1.0)
            now.tally.faults += link.cut()
        await producing
        await now.apply()

    assert now.tally.in_doubt == 0


async def test_messages_sent_up_to_five_times_over_http_and_amqp_are_one_run_each(
    scene: SetScene, amqp: str, full: bool
) -> None:
    """M18: keys belong to the sender, so the copies of one request use one protocol."""
    count = 2000 if full else 100
    async with scene("M18") as now:
        await now.victim.start()
        requested = requests(count)
        copies = [one for one in requested for _ in range(now.dice.randint(0, 4))]
        now.tally.faults = len(copies)
        now.dice.shuffle(copies)
        await asyncio.gather(now.publish(requested), publish(amqp, copies, retry=True))
        await by_http(now, count)
        await now.apply()


async def by_http(now: Scene, count: int) -> None:
    requested = requests(count, start=count)
    now.submit(requested)
    now.submit_copies(requested)
    await asyncio.gather(*now._producers)
