"""Bounds the bytes of messages in progress: the connection reads a message only while there is room for its body.

A broker delivers as many messages as the prefetch count permits, whatever their size. What is not read stays in the
socket and at the broker.
"""

import asyncio
from contextlib import suppress

MESSAGES = 64 * 1024 * 1024  # bytes
LONGEST_STALL = 10.0  # seconds; a connection on which nothing is read for 33 counts as lost, which costs a redelivery


class MessageMemory:
    """The bytes of one connection's messages, by delivery tag: from the content header until the message is done."""

    def __init__(self, limit: int = MESSAGES, longest_stall: float = LONGEST_STALL) -> None:
        self.held = 0
        self._limit = limit
        self._longest_stall = longest_stall
        self._sizes: dict[int, int] = {}
        self._released = asyncio.Event()

    async def arriving(self, tag: int, size: int) -> None:
        """Wait until there is room, then count a message. A message larger than the limit is admitted alone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._longest_stall):
                while self.held and self.held + size > self._limit:
                    self._released.clear()
                    await self._released.wait()
        self._sizes[tag] = size
        self.held += size

    def done(self, tag: int | None) -> None:
        """Stop counting a message: it is stored, or returns to the queue."""
        if tag is not None:
            self.held -= self._sizes.pop(tag, 0)
            self._released.set()
