"""Limits the memory of request bodies, parsed requests, and responses being sent, in bytes.

Limits on counts do not bound memory if single items are large. Each purpose has a separate budget, which its holders,
such as clients, share.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Self

MIB = 1024 * 1024
BODY_BYTES = 64 * MIB
RESPONSE_BYTES = 64 * MIB
VALUE_BYTES = 128 * MIB


class Hold:
    """Bytes of a budget that are held until released. `evict` ends their use; None: it cannot be ended."""

    def __init__(self, budget: "ByteBudget", holder: str, evict: Callable[[], None] | None) -> None:
        self.holder = holder
        self.evict = evict
        self.size = 0
        self._budget = budget

    def grow(self, size: int) -> None:
        """Hold `size` more bytes, evicting other holds if the budget is exceeded."""
        self._budget.grow(self, size)

    def release(self) -> None:
        """Release all bytes."""
        self._budget.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class ByteBudget:
    """A budget of `limit` bytes; one holder may have the fraction `share`.

    The limits hold as far as holders wait for room or can be evicted.
    """

    def __init__(self, limit: int, share: float = 1.0) -> None:
        self.limit = limit
        self.held = 0
        self._holder_limit = int(limit * share)
        self._holds: dict[Hold, None] = {}
        self._held_by = Counter[str]()
        self._waiting: dict[asyncio.Future[None], None] = {}  # in order of arrival

    @property
    def free(self) -> int:
        """Return the number of free bytes."""
        return max(0, self.limit - self.held)

    def hold(self, holder: str = "", evict: Callable[[], None] | None = None) -> Hold:
        """Return a new hold of no bytes."""
        return Hold(self, holder, evict)

    async def wait_for_room(self, holder: str = "", size: int = 1) -> None:
        """Wait until a holder may hold `size` more bytes; the default is for sizes that are not known yet.

        A size beyond the limit or the share is permitted if nothing else is held.
        """
        while not (_fits(size, self.held, self.limit) and _fits(size, self._held_by[holder], self._holder_limit)):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[waiter] = None
            try:
                await waiter
            finally:
                del self._waiting[waiter]

    def grow(self, hold: Hold, size: int) -> None:
        """Add `size` bytes to a hold.

        While the limit is exceeded, evict the oldest hold of the holder with the most bytes, so that a holder cannot
        displace others and slow uses give way to quick ones.
        """
        hold.size += size
        self.held += size
        self._held_by[hold.holder] += size
        self._holds[hold] = None
        while self.held > self.limit and (victim := self._victim()) is not None:
            self.release(victim)
            if victim.evict is not None:
                victim.evict()

    def release(self, hold: Hold) -> None:
        """Release a hold, and wake the waiters for room."""
        if hold not in self._holds:
            return
        del self._holds[hold]
        self.held -= hold.size
        self._held_by[hold.holder] -= hold.size
        if not self._held_by[hold.holder]:
            del self._held_by[hold.holder]
        hold.size = 0
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _victim(self) -> Hold | None:
        evictable = [hold for hold in self._holds if hold.evict is not None]
        if not evictable:
            return None
        largest = max({hold.holder for hold in evictable}, key=self._held_by.__getitem__)
        return next(hold for hold in evictable if hold.holder == largest)


def _fits(size: int, held: int, limit: int) -> bool:
    return not held or held + size <= limit


def values_budget() -> ByteBudget:
    """Return a budget for parsed requests, from their parsing until they are stored or refused."""
    return ByteBudget(VALUE_BYTES, share=0.5)
