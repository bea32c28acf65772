"""Things to do at their moments: one heap and one task for all of them, asleep while there is nothing to do."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from contextlib import suppress

Action = Callable[[], None]


class Timers:
    """What is to be done when. Actions must be short; what takes time they hand over to a task of its own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Action]] = []
        self._order = itertools.count()
        self._look = asyncio.Event()

    def at(self, moment: float, action: Action) -> None:
        """Do this at that moment, or at once if it is past."""
        heapq.heappush(self._heap, (moment, next(self._order), action))
        if self._heap[0][0] == moment:
            self._look.set()

    def nudge(self) -> None:
        """Do now what is due, whatever the sleep was meant for: the clock may have been put forward."""
        if self._heap and self._heap[0][0] <= self._clock():
            self._look.set()

    async def run(self) -> None:
        """Do everything at its moment, until cancelled."""
        while True:
            self._look.clear()
            self._do_what_is_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._look.wait()

    def _do_what_is_due(self) -> None:
        while self._heap and self._heap[0][0] <= self._clock():
            _, _, action = heapq.heappop(self._heap)
            action()

    def _pause(self) -> float | None:
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None
