"""Messages that the AMQP library cannot decode, between good ones, against the real daemon and broker."""

import json
import time
from itertools import cycle, islice
from typing import Any

import aio_pika
import pytest

from tests.acceptance.harness import DEAD, Daemon, channel, eventually
from tests.raw_frames import ODD, POISON, publish_raw, short

BAD, GOOD_FOR_EACH = 20, 10


def request(number: int) -> bytes:
    return json.dumps({"inputs": {"n": str(number)}, "meta": {"n": number}}).encode()


@pytest.mark.timeout(180)
async def test_no_poison_frame_costs_a_good_message(daemon: Daemon, amqp: str) -> None:
    """Twenty of all kinds among two hundred good ones: each good one runs, each bad one is in the dead queue."""
    began = time.monotonic()
    async with channel(amqp) as ch:
        await _publish_mixed(ch)
        good = BAD * GOOD_FOR_EACH
        await eventually(lambda: _is(daemon.count("succeeded"), good), 90, "every good message's run has succeeded")
        await eventually(lambda: _is(_depth(ch), BAD), 60, "every bad message is in the dead queue")
        took = time.monotonic() - began
        dead = [await _get(ch) for _ in range(BAD)]
    assert {message.headers["x-bridge-reason"] for message in dead} == {"invalid_request"}
    assert all("cannot be decoded" in str(message.headers["x-bridge-detail"]) for message in dead)
    assert daemon.log_events()["broker_lost"] == 0, "no connection may be lost over them"
    print(f"{good} good and {BAD} bad messages in {took:.1f} s")


async def _publish_mixed(ch: aio_pika.abc.AbstractChannel) -> None:
    odd = cycle([{}, *ODD.values()])
    bad = list(islice(cycle([*POISON.values(), None]), BAD))
    for number in range(BAD * GOOD_FOR_EACH):
        await publish_raw(ch, next(odd), request(number), "kickoff.requests", b"research")
        if number % GOOD_FOR_EACH == 5:
            properties = bad.pop()
            body = json.dumps({"crew": "research", "inputs": {"n": "bad"}}).encode()
            key = b"re\xffsearch" if properties is None else b"research"
            await publish_raw(ch, properties or {"app_id": short(b"x")}, body, "kickoff.requests", key)
    await ch.declare_queue(DEAD, passive=True)  # answered after all of them, so they have arrived


async def _is(count: Any, wanted: int) -> bool:
    return bool(await count == wanted)


async def _depth(ch: aio_pika.abc.AbstractChannel) -> int:
    return (await ch.declare_queue(DEAD, passive=True)).declaration_result.message_count or 0


async def _get(ch: aio_pika.abc.AbstractChannel) -> aio_pika.abc.AbstractIncomingMessage:
    message = await (await ch.get_queue(DEAD, ensure=False)).get(no_ack=True)
    assert message is not None
    return message
