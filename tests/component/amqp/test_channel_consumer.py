"""The consumer of one channel: what happens to a message that raised an exception."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from bridge.adapters.amqp.channel_consumer import Backpressure, ChannelConsumer
from bridge.adapters.amqp.memory import MessageMemory
from bridge.core.errors import StoreBroken, StoreDamaged


class Channel:
    """Delivers one message, and records whether it is rejected or acked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.deliver: Any = None

    async def basic_qos(self, **_: Any) -> None:
        """Accept any prefetch count."""

    async def basic_consume(self, _: str, callback: Any) -> Any:
        self.deliver = callback
        return SimpleNamespace(consumer_tag="tag")

    def __getattr__(self, name: str) -> Any:
        async def call(*_: Any, **__: Any) -> None:
            self.calls.append(name)

        return call


async def delivered(error: Exception) -> tuple[list[str], list[Exception]]:
    """Deliver a message whose storing raises; return the calls on its channel, and the reported exceptions."""
    channel: Any = Channel()
    reported: list[Exception] = []

    async def take(_: Any) -> None:
        raise error

    async def probe(_: int) -> None:
        raise AssertionError

    memory = MessageMemory()
    consumer = ChannelConsumer(channel, "queue", 10, Backpressure(), take, probe, reported.append, memory)
    await consumer.start()
    deliver = Basic.Deliver("tag", 1, redelivered=False, exchange="", routing_key="queue")
    await channel.deliver(DeliveredMessage(deliver, ContentHeader(), b"{}", channel))
    return channel.calls, reported


@pytest.mark.parametrize("error", [StoreBroken("disk I/O error"), StoreDamaged("malformed")])
async def test_a_broken_store_leaves_its_messages_in_the_queue(error: Exception):
    """They were dead-lettered, although nothing was wrong with them: fifty at a time."""
    assert await delivered(error) == ([], [error])


async def test_the_broker_dead_letters_a_message_that_raised_any_other_exception():
    bug = ZeroDivisionError()
    assert await delivered(bug) == (["basic_reject"], [bug])
