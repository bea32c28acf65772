"""Store commands that must wait for a POST, so that a listener which crews share never waits for one crew."""

from collections.abc import Sequence

import structlog

from bridge.core.errors import PostInProgress, RequestRefused
from bridge.core.runs.commands import Cancel, RunCommand
from bridge.core.runs.quarantine import Quarantined
from bridge.core.values import kind_name
from bridge.ports.inbound import ApplyCommand, RunKey
from bridge.ports.lifecycle import Clock
from bridge.ports.runs import DeferredCommands

TICK = 1.0
RETRY_AFTER_FAULT = 60.0  # seconds until a command that raised an unexpected exception is tried again

log = structlog.get_logger()


class AcceptCommand:
    """`ports.AcceptCommand`: the consumer calls it."""

    def __init__(self, apply: ApplyCommand, deferred: DeferredCommands, clock: Clock) -> None:
        self._apply = apply
        self._deferred = deferred
        self._clock = clock

    async def __call__(self, wanted: str | RunKey, command: RunCommand, by: str) -> None:
        """Apply the command, or store it while a POST for its run is in progress; durable on return.

        Raise `RequestRefused` or `StoreUnavailable`. Only a command to cancel can arrive during a POST: an answer
        needs a question, which a run has only after its POST.
        """
        while True:
            try:
                await self._apply(wanted, command, by)
            except PostInProgress as error:
                if not await self._deferred.defer(error.run_id, by, self._clock()):
                    continue  # the POST has finished or the run has ended: apply it now
                log.info("command_deferred", **error.log_fields, command=kind_name(type(command)), by=by)
            return


class ApplyDeferredCommands:
    """Applies the stored commands: cancels runs whose POST was in progress when the command arrived."""

    name = "deferred-commands"
    kind = Quarantined.RUN

    def __init__(self, apply: ApplyCommand, deferred: DeferredCommands, clock: Clock) -> None:
        self._apply = apply
        self._deferred = deferred
        self._clock = clock
        self._retry_at: dict[str, float] = {}

    async def claim(self, limit: int) -> Sequence[tuple[str, str]]:
        """Return the commands that can be applied now; they have no owner, because applying one is idempotent."""
        now = self._clock()
        self._retry_at = {run_id: at for run_id, at in self._retry_at.items() if at > now}
        applicable = await self._deferred.applicable(limit + len(self._retry_at))
        return [item for item in applicable if item[0] not in self._retry_at][:limit]

    async def handle(self, item: tuple[str, str]) -> None:
        """Cancel the run; if it has ended already, drop the command."""
        run_id, by = item
        try:
            await self._apply(run_id, Cancel(), by)
        except PostInProgress:
            return  # it is being started again; the command stays
        except RequestRefused as refusal:
            log.info("command_dropped", run_id=run_id, code=refusal.code)
        await self._deferred.remove(run_id)

    def about(self, item: tuple[str, str]) -> dict[str, object]:
        """Identify the run."""
        return {"run_id": item[0]}

    async def quarantine(self, item: tuple[str, str]) -> None:
        """Apply the command later."""
        self._retry_at[item[0]] = self._clock() + RETRY_AFTER_FAULT

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK
