"""Ask questions that arrived before their execution's run was known.

Deployments send a question once. Its run may become known to another process than the one that received the question,
so the step looks it up in the store, again and again.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from bridge.core.human_input.model import QuestionContent
from bridge.core.runs.model import Run
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock
from bridge.ports.store import Store
from bridge.steps._crew import Crew
from bridge.steps._tracker import RETRY_INTERVAL

RETRY_AFTER_FAULT = 60.0  # seconds, after an unexpected exception

log = structlog.get_logger()


class AskPendingQuestions:
    """Looks up the runs of pending questions and asks them; an item is a crew's name and a kickoff id."""

    name = "pending-questions"
    kind = Quarantined.WEBHOOK

    def __init__(
        self,
        crews: Mapping[str, Crew],
        store: Store,
        clock: Clock,
        ask: Callable[[Run, QuestionContent], Awaitable[None]],
    ) -> None:
        self._crews = crews
        self._store = store
        self._clock = clock
        self._ask = ask

    async def claim(self, room: int) -> Sequence[tuple[str, str]]:
        """Return the questions whose run is due to be looked up."""
        now = self._clock()
        crews = self._crews.values()
        due = [(crew.name, kickoff_id) for crew in crews for kickoff_id in crew.questions.due(now)][:room]
        for name, kickoff_id in due:
            self._crews[name].questions.postpone(kickoff_id, now)
        return due

    async def handle(self, item: tuple[str, str]) -> None:
        """Ask if the run is known by now; drop a question that has waited too long."""
        name, kickoff_id = item
        questions = self._crews[name].questions
        if (pending := questions.get(kickoff_id)) is None:
            return
        run = await self._store.find_execution(name, kickoff_id)
        if run is not None:
            await self._ask(run, pending.content)
        elif self._clock() < pending.until:
            return
        else:
            log.warning("human_input_unmatched", crew=name, kickoff_id=kickoff_id)
        questions.remove(kickoff_id)

    def about(self, item: tuple[str, str]) -> dict[str, object]:
        """Identify the execution."""
        name, kickoff_id = item
        return {"crew": name, "kickoff_id": kickoff_id}

    async def quarantine(self, item: tuple[str, str]) -> None:
        """Look its run up less often."""
        name, kickoff_id = item
        self._crews[name].questions.postpone(kickoff_id, self._clock(), RETRY_AFTER_FAULT)

    def pause(self) -> float:
        """Seconds until the next claim."""
        return RETRY_INTERVAL
