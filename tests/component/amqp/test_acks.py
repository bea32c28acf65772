"""Acknowledgments: every stored message is acknowledged, and no other."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aio_pika.exceptions import ChannelInvalidStateError
from hypothesis import given
from hypothesis import strategies as st

from bridge.adapters.amqp.acks import Acks


class Broker:
    """Keeps the unacknowledged messages of one channel, as a broker does; `dead`: the channel is closed."""

    def __init__(self, messages: int, *, dead: bool = False) -> None:
        self.unacked = set(range(1, messages + 1))
        self.frames = 0
        self._dead = dead

    async def basic_ack(self, tag: int, *, multiple: bool = False, wait: bool = True) -> None:
        """Raise as a closed channel does, or a broker that does not know the message."""
        assert not wait
        self.frames += 1
        if self._dead:
            raise ChannelInvalidStateError
        acked = {one for one in self.unacked if one <= tag} if multiple else {tag}
        assert tag in acked <= self.unacked
        self.unacked -= acked


def _message(broker: Broker, tag: int) -> Any:
    return SimpleNamespace(channel=broker, delivery_tag=tag)


def _all_come(broker: Broker) -> tuple[Acks, dict[int, Any]]:
    acks, messages = Acks(), {tag: _message(broker, tag) for tag in sorted(broker.unacked)}
    for message in messages.values():
        acks.add(message)
    return acks, messages


async def test_messages_stored_together_are_acked_with_one_frame():
    broker = Broker(40)
    acks, messages = _all_come(broker)
    for message in messages.values():
        acks.done(message)
    await acks.written()
    assert (broker.unacked, broker.frames) == (set(), 1)


@given(st.permutations(range(1, 9)), st.sets(st.integers(1, 8)), st.sets(st.integers(0, 7)))
def test_only_stored_messages_are_acked_in_any_order(order: list[int], stored: set[int], pauses: set[int]):
    async def play() -> set[int]:
        broker = Broker(8)
        acks, messages = _all_come(broker)
        for position, tag in enumerate(order):
            if tag in stored:
                acks.done(messages[tag])
            if position in pauses:
                await acks.written()
        await acks.written()
        return broker.unacked

    assert asyncio.run(play()) == set(range(1, 9)) - stored


@pytest.mark.parametrize("left_open", [False, True])
async def test_a_closed_channel_sends_no_acks_and_raises_nothing(left_open: bool):
    broker = Broker(3, dead=True)
    acks, messages = _all_come(broker)
    for message in list(messages.values())[left_open:]:
        acks.done(message)
    await acks.written()
    assert len(broker.unacked) == 3
