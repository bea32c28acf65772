"""Where several processes share a store, take up hints that reached a process that does not follow the run."""

from collections.abc import Awaitable, Callable, Sequence

from bridge.core.runs.quarantine import Quarantined
from bridge.ports.store import PassedHint, Store

TICK = 1.0


class Relay:
    """Reads what others have left for the runs that this process owns; `take` is what `TakeHint` does with it."""

    name = "relay"
    kind = Quarantined.WEBHOOK

    def __init__(self, store: Store, take: Callable[[PassedHint], Awaitable[None]]) -> None:
        self._store = store
        self._take = take

    async def claim(self, room: int) -> Sequence[PassedHint]:
        """Hints for this process's runs. One that is lost with the process is only a hint."""
        return await self._store.collect_hints(room)

    async def handle(self, hint: PassedHint) -> None:
        """As if it had come here."""
        await self._take(hint)

    def about(self, hint: PassedHint) -> dict[str, object]:
        """Which webhook it is."""
        return {"run_id": hint.run_id, "webhook": hint.kind.value}

    async def quarantine(self, hint: PassedHint) -> None:
        """Nothing is left of it; polls find what it said."""

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK
