"""Compare the files of the store with those that were opened, also while nothing is written."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from bridge.core.errors import StoreBroken, StoreDamaged
from bridge.core.runs.quarantine import Quarantined
from bridge.observability.logging import log_fault
from bridge.ports.lifecycle import ReportFault

EVERY = 1.0  # seconds


class StoreGuard:
    """End the process by `StoreReplaced` once a file of the store is not what it was; `ports.Service`."""

    name = "store-guard"

    def __init__(
        self, verifications: Sequence[Callable[[], None]], report: ReportFault = log_fault, every: float = EVERY
    ) -> None:
        self._verifications = verifications
        self._report = report
        self._every = every
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Verify again and again, until stopped; raise `StoreReplaced` or `StoreBroken`."""
        while not self._stopping.is_set():
            await asyncio.to_thread(self._verify)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._every)

    def stop(self) -> None:
        """Verify no more."""
        self._stopping.set()

    def _verify(self) -> None:
        for verify in self._verifications:
            try:
                verify()
            except (StoreBroken, StoreDamaged):
                raise
            except Exception as error:  # noqa: BLE001 - says nothing about the files
                self._report(Quarantined.TASK, error, task="verify")
