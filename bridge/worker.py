"""The one loop that every step runs in: claim, handle, wait for tick or wake, drain.

Items are handled in tasks of their own, which nobody cancels: a POST that is under way may already be paid for.
An unexpected exception costs its item alone, which the step sets aside (`quarantine`); one in a claim delays the next
claim. Only a store that cannot be relied on ends the worker, after the others are done, and with it the process.
"""

import asyncio
import contextlib
from typing import Generic

import structlog

from bridge.core.errors import Stale, StoreBroken, StoreDamaged, StoreUnavailable
from bridge.core.runs.deferral import delay_after
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.processing import Item, ReportFault, Step

STORE_PAUSE = 1.0  # seconds until claiming is tried again while the store is away
FATAL = (StoreBroken, StoreDamaged)

log = structlog.get_logger()


class Worker(Generic[Item]):
    """Runs one step, at most `capacity` items at a time. `wake` says that there may be something to claim."""

    def __init__(self, step: Step[Item], capacity: int, wake: asyncio.Event, report: ReportFault) -> None:
        self.name = step.name
        self._step = step
        self._capacity = capacity
        self._wake = wake
        self._report = report
        self._stopping = asyncio.Event()
        self._in_hand: set[asyncio.Task[None]] = set()
        self._failed_claims = 0
        self._claim_after = 0.0  # by the loop's clock
        self._fatal: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Worker {self.name}: {len(self._in_hand)} of {self._capacity} in hand>"

    async def run(self) -> None:
        """Work until stopped and everything in hand is done; raises what the whole process must end of."""
        while not self._done():
            self._wake.clear()
            pause = await self._claim()
            if not self._done():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)
        while self._in_hand:
            await asyncio.wait(self._in_hand)
        if self._fatal is not None:
            raise self._fatal

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping.set()
        self._wake.set()

    def _done(self) -> bool:
        return self._stopping.is_set() or self._fatal is not None

    def _full(self) -> bool:
        return len(self._in_hand) >= self._capacity

    async def _claim(self) -> float | None:
        """Fill the free places; gives back for how long waiting for a wake makes sense, None: until one comes."""
        if self._full():
            return None  # a finished item wakes us
        if (pause := self._claim_after - asyncio.get_running_loop().time()) > 0.0:
            return pause  # however many wakes come
        try:
            return await self._fill(self._capacity - len(self._in_hand))
        except StoreUnavailable as error:
            log.warning("claim_failed", step=self.name, reason=str(error))
            return STORE_PAUSE
        except FATAL as error:
            self._fatal = self._fatal or error
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is must not keep the other steps from working
            return self._after_failed_claim(error)

    async def _fill(self, room: int) -> float | None:
        items = await self._step.claim(room)
        for item in items:
            self._start(item)
        pause = max(self._step.pause(), 0.0)
        self._failed_claims = 0
        if len(items) < room:
            return pause
        return None if self._full() else 0.0  # there may be more, and places came free while we claimed

    def _after_failed_claim(self, error: Exception) -> float:
        self._report(Quarantined.TASK, error, step=self.name, task="claim")
        self._failed_claims += 1
        pause = delay_after(self._failed_claims)
        self._claim_after = asyncio.get_running_loop().time() + pause
        return pause

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
            log.info("stale_write_discarded", step=self.name, reason=str(error))
        except FATAL:
            raise
        except asyncio.CancelledError as error:
            if _being_cancelled():
                raise
            await self._quarantine(item, error)  # a library did that, and the item would be forgotten without a word
        except Exception as error:  # noqa: BLE001 - whatever it is costs this item alone
            await self._quarantine(item, error)

    async def _quarantine(self, item: Item, error: BaseException) -> None:
        """Report once, then have the step set the item aside, however long the store is away."""
        self._report(self._step.kind, error, step=self.name, **self._about(item))
        while True:
            try:
                await self._step.quarantine(item)
            except StoreUnavailable:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), STORE_PAUSE)
                if self._stopping.is_set():
                    return  # the next process takes up what this one owned
            except Stale as stale:
                log.info("stale_write_discarded", step=self.name, reason=str(stale))
                return
            except FATAL:
                raise
            except Exception as second:  # noqa: BLE001 - as above; the item stays with this process
                self._report(Quarantined.TASK, second, step=self.name, task="quarantine", **self._about(item))
                return
            else:
                return

    def _about(self, item: Item) -> dict[str, object]:
        try:
            return self._step.about(item)
        except Exception:  # noqa: BLE001 - the item may be the very thing that is broken
            return {}

    def _finished(self, task: asyncio.Task[None]) -> None:
        was_full = self._full()
        self._in_hand.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fatal = self._fatal or error
        if was_full or self._fatal is not None:
            self._wake.set()


def _being_cancelled() -> bool:
    """Whether this task is asked to end; libraries raise `CancelledError` without that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
