"""The one loop that every step runs in: claim, handle, wait for tick or wake, drain.

Items are handled in tasks of their own, which nobody cancels: a POST that is under way may already be paid for. A bug
in one item stops the worker after the others are done, and with it the process; weather (the store is away, somebody
else decided first) does not.
"""

import asyncio
import contextlib
from typing import Generic

import structlog

from bridge.core.errors import Stale, StoreUnavailable
from bridge.ports import Item, Step

STORE_PAUSE = 1.0  # seconds until claiming is tried again while the store is away

log = structlog.get_logger()


class Worker(Generic[Item]):
    """Runs one step, at most `capacity` items at a time. `wake` says that there may be something to claim."""

    def __init__(self, step: Step[Item], capacity: int, wake: asyncio.Event) -> None:
        self.name = step.name
        self._step = step
        self._capacity = capacity
        self._wake = wake
        self._stopping = False
        self._in_hand: set[asyncio.Task[None]] = set()
        self._bug: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Worker {self.name}: {len(self._in_hand)} of {self._capacity} in hand>"

    async def run(self) -> None:
        """Work until stopped and everything in hand is done; raises what a bug in the step raised."""
        while not self._done():
            self._wake.clear()
            pause = await self._claim()
            if not self._done():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)
        while self._in_hand:
            await asyncio.wait(self._in_hand)
        if self._bug is not None:
            raise self._bug

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping = True
        self._wake.set()

    def _done(self) -> bool:
        return self._stopping or self._bug is not None

    def _full(self) -> bool:
        return len(self._in_hand) >= self._capacity

    async def _claim(self) -> float | None:
        """Fill the free places; gives back for how long waiting for a wake makes sense, None: until one comes."""
        if self._full():
            return None  # a finished item wakes us
        room = self._capacity - len(self._in_hand)
        try:
            items = await self._step.claim(room)
        except StoreUnavailable as error:
            log.warning("claim_failed", step=self.name, reason=str(error))
            return STORE_PAUSE
        except Exception as error:  # noqa: BLE001 - a bug, raised by `run` after what is in hand
            self._bug = self._bug or error
            return None
        for item in items:
            self._start(item)
        if len(items) < room:
            return max(self._step.pause(), 0.0)
        return None if self._full() else 0.0  # there may be more, and places came free while we claimed

    def _start(self, item: Item) -> None:
        task = asyncio.create_task(self._handle(item), name=f"{self.name}-item")
        self._in_hand.add(task)
        task.add_done_callback(self._finished)

    async def _handle(self, item: Item) -> None:
        try:
            await self._step.handle(item)
        except StoreUnavailable as error:
            log.warning("step_interrupted", step=self.name, reason=str(error))
        except Stale as error:
            log.info("answer_dropped", step=self.name, reason=str(error))

    def _finished(self, task: asyncio.Task[None]) -> None:
        was_full = self._full()
        self._in_hand.discard(task)
        if task.cancelled():  # nobody here does that, but a library might: the item would be forgotten without a word
            self._bug = self._bug or RuntimeError(f"{self.name}: an item was cancelled")
        elif (error := task.exception()) is not None:
            self._bug = self._bug or error
        if was_full or self._bug is not None:
            self._wake.set()
