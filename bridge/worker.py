"""The loop that runs every step: claim items, handle each in a task, wait for a signal or the pause, drain on stop.

Item tasks are never cancelled: a POST in progress may already be paid for. An unexpected exception affects its item
alone, which the step quarantines; one in a claim delays the next claim. Only an unreliable store ends the worker,
after its other items are done, and with it the process.
"""

import asyncio
import contextlib
from typing import Generic

import structlog

from bridge.core.errors import FATAL, StoreUnavailable
from bridge.core.runs.quarantine import Quarantined
from bridge.core.runs.timing import delay_after
from bridge.ports.lifecycle import Item, ReportFault, Step

STORE_RETRY_INTERVAL = 1.0  # seconds between attempts during a store outage

log = structlog.get_logger()


class Worker(Generic[Item]):
    """Runs one step, with at most `capacity` items in progress; `signal` says that there may be items to claim."""

    def __init__(self, step: Step[Item], capacity: int, signal: asyncio.Event, report: ReportFault) -> None:
        self.name = step.name
        self._step = step
        self._capacity = capacity
        self._signal = signal
        self._report = report
        self._stopping = asyncio.Event()
        self._in_progress: set[asyncio.Task[None]] = set()
        self._failed_claims = 0
        self._claim_after = 0.0  # by the loop's clock
        self._fatal: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Worker {self.name}: {len(self._in_progress)} of {self._capacity} in progress>"

    async def run(self) -> None:
        """Work until stopped and every item is done. Raise an error that must end the process."""
        while not self._done():
            self._signal.clear()
            pause = await self._claim()
            if not self._done():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._signal.wait(), pause)
        while self._in_progress:
            await asyncio.wait(self._in_progress)
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        """Stop claiming."""
        self._stopping.set()
        self._signal.set()

    def _done(self) -> bool:
        return self._stopping.is_set() or self._fatal is not None

    def _full(self) -> bool:
        return len(self._in_progress) >= self._capacity

    async def _claim(self) -> float | None:
        """Claim up to the free capacity; return how long to wait for a signal, None: without limit."""
        if self._full():
            return None  # a finished item sets the signal
        if (pause := self._claim_after - asyncio.get_running_loop().time()) > 0.0:
            return pause  # whatever signals arrive
        try:
            return await self._fill(self._capacity - len(self._in_progress))
        except StoreUnavailable as error:
            log.warning("claim_failed", step=self.name, reason=str(error))
            return STORE_RETRY_INTERVAL
        except FATAL as error:
            self._fatal = self._fatal or error
            return None
        except Exception as error:  # noqa: BLE001 - must not affect other steps
            return self._after_failed_claim(error)

    async def _fill(self, limit: int) -> float | None:
        items = await self._step.claim(limit)
        for item in items:
            self._start(item)
        pause = max(self._step.pause(), 0.0)
        self._failed_claims = 0
        if len(items) < limit:
            return pause
        return None if self._full() else 0.0  # there may be more, and items have finished during the claim

    def _after_failed_claim(self, error: Exception) -> float:
        self._report(Quarantined.TASK, error, step=self.name, task="claim")
        self._failed_claims += 1
        pause = delay_after(self._failed_claims)
        self._claim_after = asyncio.get_running_loop().time() + pause
        return pause

    def _start(self, item: Item) -> None:
        task = asyncio.create_task(self._handle(item), name=f"{self.name}-item")
        self._in_progress.add(task)
        task.add_done_callback(self._finished)

    async def _handle(self, item: Item) -> None:
        try:
            await self._step.handle(item)
        except StoreUnavailable as error:
            log.warning("step_interrupted", step=self.name, reason=str(error))
        except FATAL:
            raise
        except asyncio.CancelledError as error:
            if _being_cancelled():
                raise
            await self._quarantine(item, error)  # raised by a library; otherwise the item would be lost silently
        except Exception as error:  # noqa: BLE001 - affects this item alone
            await self._quarantine(item, error)

    async def _quarantine(self, item: Item, error: BaseException) -> None:
        """Report the exception once, then quarantine the item, retrying during a store outage."""
        self._report(self._step.kind, error, step=self.name, repeated=False, **self._about(item))
        while True:
            try:
                await self._step.quarantine(item)
            except StoreUnavailable:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), STORE_RETRY_INTERVAL)
                if self._stopping.is_set():
                    return  # the next process takes over its rows
            except FATAL:
                raise
            except Exception as second:  # noqa: BLE001 - affects this item alone, which stays owned
                self._report(
                    Quarantined.TASK, second, step=self.name, task="quarantine", repeated=False, **self._about(item)
                )
                return
            else:
                return

    def _about(self, item: Item) -> dict[str, object]:
        try:
            return self._step.about(item)
        except Exception:  # noqa: BLE001 - the item itself may be broken
            return {}

    def _finished(self, task: asyncio.Task[None]) -> None:
        was_full = self._full()
        self._in_progress.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fatal = self._fatal or error
        if was_full or self._fatal is not None:
            self._signal.set()


def _being_cancelled() -> bool:
    """Return whether this task is being cancelled; libraries raise `CancelledError` by themselves."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
