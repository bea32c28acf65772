"""The memory budget for received messages."""

import asyncio

from bridge.adapters.amqp.memory import MessageMemory
from tests.patience import PATIENCE


async def test_messages_within_the_limit_are_read_at_once():
    memory = MessageMemory(limit=100, max_stall=PATIENCE)
    for tag in range(10):
        await memory.admit(tag, 10)
    assert memory.held == 100


async def test_a_message_waits_until_all_of_it_fits():
    memory = MessageMemory(limit=100, max_stall=PATIENCE)
    for tag in (1, 2, 3):
        await memory.admit(tag, 30)
    waiting = asyncio.create_task(memory.admit(4, 60))
    for tag, ready in ((2, False), (1, True)):
        memory.release(tag)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.done() is ready
    assert memory.held == 90


async def test_a_message_larger_than_the_limit_is_read_alone():
    memory = MessageMemory(limit=100, max_stall=PATIENCE)
    await memory.admit(1, 500)
    waiting = asyncio.create_task(memory.admit(2, 500))
    await asyncio.sleep(0)
    assert not waiting.done()
    memory.release(1)
    async with asyncio.timeout(PATIENCE):
        await waiting
    assert memory.held == 500


async def test_a_connection_never_waits_until_it_counts_as_lost():
    """One message over the limit costs less than a redelivery of all messages in memory."""
    memory = MessageMemory(limit=100, max_stall=0.01)
    await memory.admit(1, 100)
    await memory.admit(2, 100)
    assert memory.held == 200


async def test_a_message_is_counted_once():
    """Releasing a message from another source changes nothing."""
    memory = MessageMemory(limit=100)
    await memory.admit(1, 60)
    for tag in (1, 1, 2, None):
        memory.release(tag)
    assert memory.held == 0
