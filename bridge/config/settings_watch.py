"""Read the settings again while the bridge runs: secrets when their files change, everything on request."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext

import structlog

from bridge.config.changes import SettingsChange
from bridge.config.errors import SettingsError
from bridge.config.loading import Renewable
from bridge.config.model import Settings
from bridge.core.errors import StoreUnavailable
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import ReportFault

CHECK_INTERVAL = 1.0  # seconds

Apply = Callable[[Settings], Awaitable[SettingsChange]]
"""Makes the bridge use these settings from now on; returns what changed."""

log = structlog.get_logger()


class SettingsWatch:
    """`ports.Service`: reads files that have changed, and calls `apply` with valid settings.

    `watch_file`: also when the settings file has changed, without a request. `reloading`: entered while all settings
    are read and applied.
    """

    name = "settings-watch"

    def __init__(
        self,
        renewable: Renewable,
        apply: Apply,
        report: ReportFault,
        *,
        watch_file: bool = False,
        reloading: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._renewable = renewable
        self._apply = apply
        self._report = report
        self._watch_file = watch_file
        self._reloading = reloading
        self._requested = False
        self._stopping = False
        self._signal = asyncio.Event()

    async def run(self) -> None:
        """Check every second until stopped."""
        while not self._stopping:
            self._signal.clear()
            try:
                await self.check()
            except Exception as error:  # noqa: BLE001 - the settings in use stay in use
                self._report(Quarantined.TASK, error, task="settings")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._signal.wait()

    def request(self) -> None:
        """Read the settings again now."""
        self._requested = True
        self._signal.set()

    def stop(self) -> None:
        """Stop checking."""
        self._stopping = True
        self._signal.set()

    async def check(self) -> None:
        """Check once. A thread reads the files, because they may be on a network."""
        if self._requested or (self._watch_file and await asyncio.to_thread(self._renewable.file_changed)):
            self._requested = False
            with self._reloading():
                await self._reload()
        elif self._renewable.files:
            await self._renew_secrets()

    async def _reload(self) -> None:
        try:
            settings = await asyncio.to_thread(self._renewable.reload)
        except SettingsError as error:
            log.error("settings_rejected", problems=error.problems)  # noqa: TRY400 - without a traceback
            return
        try:
            change = await self._apply(settings)
        except StoreUnavailable as error:
            self._requested = True
            log.warning("reload_postponed", reason=str(error))
            return
        log.info("settings_reloaded", changed=change.changed, needs_restart=change.needs_restart)

    async def _renew_secrets(self) -> None:
        settings, problems = await asyncio.to_thread(self._renewable.renewed)
        for problem in problems:
            log.error("secret_file_rejected", reason=problem)
        if settings is None:
            return
        change = await self._apply(settings)
        if change.changed:
            log.info("secrets_reloaded")
        elif change.needs_restart:
            log.warning("reload_postponed", reason="other changes in the settings file need a restart")
