"""Limits the bytes of messages in progress: a connection reads a message only when there is room for its body.

The prefetch count limits the number of messages, not their sizes. Unread messages stay in the socket and at the broker.
"""

import asyncio
from contextlib import suppress

MESSAGE_BYTES = 64 * 1024 * 1024
MAX_STALL = 10.0  # seconds; the library closes a connection on which it reads nothing for 33 s


class MessageMemory:
    """The bytes of one connection's messages, by delivery tag, from the content header until the release."""

    def __init__(self, limit: int = MESSAGE_BYTES, max_stall: float = MAX_STALL) -> None:
        self.held = 0
        self._limit = limit
        self._max_stall = max_stall
        self._sizes: dict[int, int] = {}
        self._released = asyncio.Event()

    async def admit(self, tag: int, size: int) -> None:
        """Wait for room, at most `max_stall` seconds, then count a message; one beyond the limit is admitted alone."""
        if self._is_full(size):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._max_stall):
                    while self._is_full(size):
                        self._released.clear()
                        await self._released.wait()
        self._sizes[tag] = size
        self.held += size

    def _is_full(self, size: int) -> bool:
        return self.held > 0 and self.held + size > self._limit

    def release(self, tag: int | None) -> None:
        """Stop counting a message: it is stored, or returns to the queue."""
        if tag is not None:
            self.held -= self._sizes.pop(tag, 0)
            self._released.set()
