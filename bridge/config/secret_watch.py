"""Watch secret files while the bridge runs, and pass new secrets to the parts that use them."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import structlog

from bridge.config.loading import Renewable
from bridge.config.model import Settings
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import ReportFault

CHECK_INTERVAL = 1.0  # seconds

Renewal = Callable[[Settings], None]
"""Makes a part use the secrets of these settings from now on."""

log = structlog.get_logger()


class SecretWatch:
    """`ports.Service`: calls the `renewals`, in order, whenever a file has a new valid secret."""

    name = "secret-watch"

    def __init__(self, renewable: Renewable, renewals: Sequence[Renewal], report: ReportFault) -> None:
        self._renewable = renewable
        self._renewals = renewals
        self._report = report
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Check until stopped; without secret files, do nothing."""
        while not self._stopping.is_set():
            try:
                if self._renewable.files:
                    await self.check()
            except Exception as error:  # noqa: BLE001 - the secrets in use stay in use
                self._report(Quarantined.TASK, error, task="secrets")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._stopping.wait()

    def stop(self) -> None:
        """Stop checking."""
        self._stopping.set()

    async def check(self) -> None:
        """Check once. A thread reads the files, because they may be on a network."""
        settings, problems = await asyncio.to_thread(self._renewable.renewed)
        for problem in problems:
            log.error("secret_file_unusable", reason=problem)
        if settings is not None:
            for renew in self._renewals:
                self._renew(renew, settings)
            log.info("secrets_reloaded")

    def _renew(self, renew: Renewal, settings: Settings) -> None:
        try:
            renew(settings)
        except Exception as error:  # noqa: BLE001 - the other parts still get their new secrets
            self._report(Quarantined.TASK, error, task="secrets")
