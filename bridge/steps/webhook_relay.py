"""Where several processes share a store, take up hints that reached a process that does not follow the run."""

from collections.abc import Awaitable, Callable, Sequence

from bridge.core.runs.quarantine import Quarantined
from bridge.ports.store import RelayedWebhook, Store

TICK = 1.0


class ProcessRelayedWebhooks:
    """Process what other processes left for the runs of this one; `take` is `HandleCrewWebhook.handle_relayed`."""

    name = "relay"
    kind = Quarantined.WEBHOOK

    def __init__(self, store: Store, take: Callable[[RelayedWebhook], Awaitable[None]]) -> None:
        self._store = store
        self._take = take

    async def claim(self, room: int) -> Sequence[RelayedWebhook]:
        """Hints for this process's runs. One that is lost with the process is only a hint."""
        return await self._store.collect_webhooks(room)

    async def handle(self, webhook: RelayedWebhook) -> None:
        """As if it had come here."""
        await self._take(webhook)

    def about(self, webhook: RelayedWebhook) -> dict[str, object]:
        """Which webhook it is."""
        return {"run_id": webhook.run_id, "webhook": webhook.kind.value}

    async def quarantine(self, webhook: RelayedWebhook) -> None:
        """Nothing is left of it; polls find what it said."""

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK
