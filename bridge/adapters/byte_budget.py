"""Limits how many bytes one use may hold in memory: request bodies, parsed requests, and responses being sent.

Counts are limited elsewhere; a count of large things is no limit. Each use has a separate budget, so that none takes
the memory of another, and within it each holder is limited by what it holds itself.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Self

MIB = 1024 * 1024
BODIES = 64 * MIB
RESPONSES = 64 * MIB
VALUES = 128 * MIB


class Hold:
    """Some bytes of a budget, until released. `evict` ends what holds them; None: it cannot be ended."""

    def __init__(self, budget: "ByteBudget", holder: str, evict: Callable[[], None] | None) -> None:
        self.holder = holder
        self.evict = evict
        self.size = 0
        self._budget = budget

    def grow(self, size: int) -> None:
        """Hold so many bytes more; if that is too much, the budget makes room."""
        self._budget.grow(self, size)

    def release(self) -> None:
        """Release all bytes."""
        self._budget.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class ByteBudget:
    """At most `limit` bytes, of which one holder may have `share`, as far as holders wait or can be evicted."""

    def __init__(self, limit: int, share: float = 1.0) -> None:
        self.limit = limit
        self.held = 0
        self._of_holder = int(limit * share)
        self._holds: dict[Hold, None] = {}
        self._held_by = Counter[str]()
        self._waiting: dict[asyncio.Future[None], None] = {}  # the first come first

    @property
    def left(self) -> int:
        """How many bytes are free."""
        return max(0, self.limit - self.held)

    def hold(self, holder: str = "", evict: Callable[[], None] | None = None) -> Hold:
        """Begin to hold bytes, none yet."""
        return Hold(self, holder, evict)

    async def room(self, holder: str = "", size: int = 1) -> None:
        """Wait until a holder may take so many bytes more, or anything where that is only known once it is there.

        What exceeds the limit, or the holder's share, may be taken alone.
        """
        while not (_fits(size, self.held, self.limit) and _fits(size, self._held_by[holder], self._of_holder)):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[waiter] = None
            try:
                await waiter
            finally:
                del self._waiting[waiter]

    def grow(self, hold: Hold, size: int) -> None:
        """Count so many bytes more of a hold.

        If that is too much, the oldest hold of the holder with most bytes is evicted, as often as it takes: a holder
        that takes everything pays for it, and what has been under way for long makes room for what is quick.
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
        """Release a hold and wake those that wait for room."""
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
    return ByteBudget(VALUES, share=0.5)
