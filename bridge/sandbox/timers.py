"""Run actions at their times, with one heap and one task that sleeps until the next is due."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from contextlib import suppress

Action = Callable[[], None]


class Timers:
    """Keeps scheduled actions. Actions must be short; longer work belongs in a separate task."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Action]] = []
        self._order = itertools.count()
        self._signal = asyncio.Event()

    def at(self, moment: float, action: Action) -> None:
        """Run the action at that time, or immediately if it is past."""
        heapq.heappush(self._heap, (moment, next(self._order), action))
        if self._heap[0][0] == moment:
            self._signal.set()

    def send_due(self) -> None:
        """Run due actions now, because a manual clock may have moved past the end of the sleep."""
        if self._heap and self._heap[0][0] <= self._clock():
            self._signal.set()

    async def run(self) -> None:
        """Run each action at its time, until cancelled."""
        while True:
            self._signal.clear()
            self._run_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._signal.wait()

    def _run_due(self) -> None:
        while self._heap and self._heap[0][0] <= self._clock():
            _, _, action = heapq.heappop(self._heap)
            action()

    def _pause(self) -> float | None:
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None
