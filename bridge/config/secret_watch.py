"""Looking at the files of secrets while the bridge runs, and handing new ones to the parts that use them."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import structlog

from bridge.config.loading import Renewable
from bridge.config.model import Settings
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import ReportFault

PAUSE = 1.0  # seconds between two looks

Renewal = Callable[[Settings], None]
"""Has a part use the secrets of these settings from now on."""

log = structlog.get_logger()


class SecretWatch:
    """`ports.Service`: `renewals` are called, in order, whenever a file brings a new secret that is good."""

    name = "secret-watch"

    def __init__(self, renewable: Renewable, renewals: Sequence[Renewal], report: ReportFault) -> None:
        self._renewable = renewable
        self._renewals = renewals
        self._report = report
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Look again and again, until stopped; without a file there is nothing to look at."""
        while not self._stopping.is_set():
            if self._renewable.files:
                await self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE):
                    await self._stopping.wait()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    async def look(self) -> None:
        """Once. Files may lie on a network, so a thread reads them."""
        try:
            settings, problems = await asyncio.to_thread(self._renewable.renewed)
        except Exception as error:  # noqa: BLE001 - the secrets in use stay in use
            self._report(Quarantined.TASK, error, task="secrets")
            return
        for problem in problems:
            log.error("secret_file_unusable", reason=problem)
        if settings is not None:
            for renew in self._renewals:
                self._renew(renew, settings)
            log.info("secrets_reloaded")

    def _renew(self, renew: Renewal, settings: Settings) -> None:
        try:
            renew(settings)
        except Exception as error:  # noqa: BLE001 - the other parts get their new secrets all the same
            self._report(Quarantined.TASK, error, task="secrets")
