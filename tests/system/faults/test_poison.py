"""Unreadable messages between readable ones: undecodable frames (M8), payloads of any kind (M9)."""

import asyncio
import json
import time
from collections import Counter
from functools import partial
from itertools import cycle, islice

import aio_pika
import pytest

from tests.corpus import SEEDS, corrupted
from tests.patience import PATIENCE, patience_with
from tests.raw_frames import ODD, POISON, publish_raw, short
from tests.system.acceptance.harness import DEAD, channel, eventually
from tests.system.faults.conftest import OpenScenario
from tests.system.faults.harness import Scenario, requests

pytestmark = pytest.mark.timeout(1800)

BAD = 20


async def test_an_undecodable_frame_costs_no_valid_message(open_scenario: OpenScenario, amqp: str, full: bool) -> None:
    """M8: valid messages run, invalid ones are in the dead-letter queue, and no connection is lost."""
    good = 2000 if full else 200
    async with open_scenario("M8") as scenario:
        await scenario.daemon.start()
        began = time.monotonic()
        async with channel(amqp) as ch:
            await publish_mixed(scenario, ch, good)
        scenario.tally.faults = BAD
        await scenario.come_to_rest()
        print(f"{good} good and {BAD} bad frames in {time.monotonic() - began:.1f} s")
        dead = await take_dead(scenario, BAD)
        lost_links = scenario.daemon.log_events()["broker_disconnected"]
        await scenario.apply()

    assert {message.headers["x-bridge-reason"] for message in dead} == {"invalid_request"}
    assert all("cannot be decoded" in str(message.headers["x-bridge-detail"]) for message in dead)
    assert lost_links == 0, "no connection may be lost over them"
    assert scenario.tally.in_doubt == 0


async def test_any_payload_is_a_run_or_a_dead_letter_exactly_once(
    open_scenario: OpenScenario, amqp: str, full: bool
) -> None:
    """M9: invalid bodies of every kind between valid ones; nothing arrives twice, nothing is missing."""
    count, good = (5000, 500) if full else (250, 50)
    async with open_scenario("M9") as scenario:
        await scenario.daemon.start()
        bodies = [corrupted(scenario.rng, scenario.rng.choice(SEEDS)) for _ in range(count)]
        await asyncio.gather(scenario.publish(requests(good)), publish_bodies(amqp, bodies))
        await eventually(partial(nothing_is_left, amqp), "every message has been taken", patience_with(count))
        dead = Counter([message.body for message in await take_dead(scenario, 1 + count // 2)])
        scenario.tally.faults = dead.total()
        scenario.tally.requests = good + count - dead.total()  # valid bodies have become runs
        await scenario.come_to_rest()
        dead += Counter([message.body for message in await take_dead(scenario, 0)])
        await scenario.apply()

    assert dead <= Counter(bodies), "a dead letter came twice, or was changed"
    assert dead.total() == scenario.tally.faults
    assert scenario.tally.in_doubt == 0


async def publish_mixed(scenario: Scenario, ch: aio_pika.abc.AbstractChannel, good: int) -> None:
    odd = cycle([{}, *ODD.values()])
    bad = list(islice(cycle([*POISON.values(), None]), BAD))
    scenario.tally.requests += good
    for number in range(good):
        body = json.dumps({"inputs": {"n": str(number)}, "meta": {"n": number}}).encode()
        await publish_raw(ch, next(odd), body, "kickoff.requests", b"research")
        if number % (good // BAD) == 5:
            properties = bad.pop()
            body = json.dumps({"crew": "research", "inputs": {"n": "bad"}}).encode()
            key = b"re\xffsearch" if properties is None else b"research"
            await publish_raw(ch, properties or {"app_id": short(b"x")}, body, "kickoff.requests", key)
    await ch.declare_queue(DEAD, passive=True)  # answered after all of them, so they have arrived


async def publish_bodies(amqp: str, bodies: list[bytes]) -> None:
    async with channel(amqp) as ch:
        exchange = await ch.get_exchange("kickoff.requests")
        for number, body in enumerate(bodies):
            message = aio_pika.Message(body, message_id=f"odd-{number}", delivery_mode=2)
            await exchange.publish(message, "research", timeout=PATIENCE)


async def nothing_is_left(amqp: str) -> bool:
    """Nothing waits, and all deliveries are acked; asked twice, because the numbers lag behind."""
    for _ in range(2):
        async with channel(amqp) as ch:
            queue = await ch.declare_queue("kickoff.requests", passive=True)
            if queue.declaration_result.message_count:
                return False
        await asyncio.sleep(1.0)
    return True


async def take_dead(scenario: Scenario, at_least: int) -> list[aio_pika.abc.AbstractIncomingMessage]:
    """All messages in the dead-letter queue."""

    async def enough() -> bool:
        return await scenario.dead_letters() >= at_least and await scenario.nothing_pending()

    await eventually(enough, f"{at_least} messages in the dead-letter queue")
    async with channel(scenario.amqp) as ch:
        queue = await ch.declare_queue(DEAD, passive=True)
        taken = []
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            taken.append(message)
        return taken
