"""Detect a stalled event loop from a separate thread, and report one that runs to the service manager."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable

import structlog

STALLED_AFTER = 30.0  # seconds

log = structlog.get_logger()


class Watchdog:
    """`ports.Service`. After `stalled_after` seconds without an iteration of the loop, logs its stack once.

    Calls `alive` thirty times in that period, as long as the loop runs.
    """

    name = "watchdog"

    def __init__(
        self,
        alive: Callable[[], None] = lambda: None,
        stalled_after: float = STALLED_AFTER,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._alive = alive
        self._stalled_after = stalled_after
        self._monotonic = monotonic
        self._last_iteration = monotonic()
        self._stopping = asyncio.Event()
        self._ended = threading.Event()

    @property
    def stalled(self) -> bool:
        """Whether the loop has been stalled for too long."""
        return self._monotonic() - self._last_iteration > self._stalled_after

    async def run(self) -> None:
        """Record the loop's iterations until stopped."""
        watcher = threading.Thread(target=self._watch, args=(threading.get_ident(),), name=self.name, daemon=True)
        self._last_iteration = self._monotonic()
        watcher.start()
        try:
            while not self._stopping.is_set():
                self._last_iteration = self._monotonic()
                self._alive()
                await asyncio.wait([stop := asyncio.ensure_future(self._stopping.wait())], timeout=self._pause())
                stop.cancel()
        finally:
            self._ended.set()

    def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()

    def _pause(self) -> float:
        return self._stalled_after / 30

    def _watch(self, loop_thread: int) -> None:
        reported = False
        while not self._ended.wait(self._pause()):
            if self.stalled and not reported:
                frame = sys._current_frames().get(loop_thread)  # noqa: SLF001 - the documented way to reach another thread
                stack = [] if frame is None else traceback.format_stack(frame)
                log.error("event_loop_stalled", for_s=round(self._monotonic() - self._last_iteration), stack=stack)
            reported = self.stalled
