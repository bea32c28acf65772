"""Ask questions that came before the run of their execution was known.

Nobody sends them again. The run may turn up in another process than the one that got the question, so the store is
asked, again and again, until it knows the execution.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from bridge.core.model import Asked, Run
from bridge.ports import Clock, Store
from bridge.steps.crew import Crew

TICK = 1.0  # seconds until the store is asked again for the same execution

log = structlog.get_logger()


class AskEarly:
    """Looks for the runs of kept questions; `ask` puts a question to a run. Items: a crew and a kickoff id."""

    name = "early"

    def __init__(
        self, crews: Mapping[str, Crew], store: Store, clock: Clock, ask: Callable[[Run, Asked], Awaitable[None]]
    ) -> None:
        self._crews = crews
        self._store = store
        self._clock = clock
        self._ask = ask

    async def claim(self, room: int) -> Sequence[tuple[str, str]]:
        """Questions whose run it is time to look for."""
        now = self._clock()
        due = [
            (crew.name, kickoff_id)
            for crew in self._crews.values()
            for kickoff_id, early in crew.early.items()
            if early.due_at <= now
        ]
        for name, kickoff_id in due[:room]:
            early = self._crews[name].early
            early[kickoff_id] = replace(early[kickoff_id], due_at=now + TICK)
        return due[:room]

    async def handle(self, item: tuple[str, str]) -> None:
        """Ask, if the run is known by now; forget what nobody can be asked any more."""
        name, kickoff_id = item
        early = self._crews[name].early
        if (kept := early.get(kickoff_id)) is None:
            return
        run = await self._store.find_execution(name, kickoff_id)
        if run is not None:
            await self._ask(run, kept.asked)
        elif self._clock() < kept.until:
            return
        else:
            log.warning("question_of_nobody", crew=name, kickoff_id=kickoff_id)
        early.pop(kickoff_id, None)

    def pause(self) -> float:
        """Seconds until the next look."""
        return TICK
