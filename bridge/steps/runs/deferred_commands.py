"""Commands from a listener that crews share: none of them waits there for a crew's answer."""

from collections.abc import Sequence
from typing import Protocol

import structlog

from bridge.core.errors import PostUnderWay, RequestRefused
from bridge.core.runs.commands import Cancel, RunCommand
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.inbound import CommandRun, KeyOfRun
from bridge.ports.lifecycle import Clock

TICK = 1.0
AFTER_A_BUG = 60.0  # seconds until a command is tried again whose processing raised an unexpected exception

log = structlog.get_logger()


class KeptCommands(Protocol):
    """Where commands wait."""

    async def keep(self, run_id: str, sender: str, now: float) -> bool:
        """Keep a command to cancel a run, durably; False if the run has ended."""

    async def applicable(self, most: int) -> list[tuple[str, str]]:
        """Runs with a command that no POST is under way for, and who sent it."""

    async def drop(self, run_id: str) -> None:
        """Forget a command."""


class TakeCommand:
    """`ports.TakeCommand`: what the queue's door calls."""

    def __init__(self, apply: CommandRun, kept: KeptCommands, clock: Clock) -> None:
        self._apply = apply
        self._kept = kept
        self._clock = clock

    async def __call__(self, wanted: str | KeyOfRun, command: RunCommand, by: str) -> None:
        """Apply the command, or keep it while a POST for its run is under way; durable when this returns.

        Raises `RequestRefused`, `StoreUnavailable`. Only a command to cancel can come while a POST is under way: an
        answer is for a question, which a run has after its POST.
        """
        while True:
            try:
                await self._apply(wanted, command, by)
            except PostUnderWay as error:
                if not await self._kept.keep(error.run_id, by, self._clock()):
                    continue  # it has ended since
                log.info("command_kept", run_id=error.run_id, command=type(command).__name__, by=by)
            return


class ApplyCommands:
    """Cancels runs whose POST was under way when the command came."""

    name = "commands"
    kind = Quarantined.RUN

    def __init__(self, apply: CommandRun, kept: KeptCommands, clock: Clock) -> None:
        self._apply = apply
        self._kept = kept
        self._clock = clock
        self._deferred: dict[str, float] = {}

    async def claim(self, room: int) -> Sequence[tuple[str, str]]:
        """Commands that can be applied now; nobody owns them, as applying one twice changes nothing."""
        now = self._clock()
        self._deferred = {run_id: until for run_id, until in self._deferred.items() if until > now}
        found = await self._kept.applicable(room + len(self._deferred))
        return [one for one in found if one[0] not in self._deferred][:room]

    async def handle(self, item: tuple[str, str]) -> None:
        """Cancel; a run that has ended by itself was faster."""
        run_id, by = item
        try:
            await self._apply(run_id, Cancel(), by)
        except PostUnderWay:
            return  # it is being started again, and the command stays
        except RequestRefused as refusal:
            log.info("command_dropped", run_id=run_id, code=refusal.code)
        await self._kept.drop(run_id)

    def about(self, item: tuple[str, str]) -> dict[str, object]:
        """Which run it is."""
        return {"run_id": item[0]}

    async def quarantine(self, item: tuple[str, str]) -> None:
        """Apply it later."""
        self._deferred[item[0]] = self._clock() + AFTER_A_BUG

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK
