"""Ask questions that came before the run of their execution was known.

Nobody sends them again. The run may turn up in another process than the one that got the question, so the store is
asked, again and again, until it knows the execution.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from bridge.core.human_input.model import QuestionContent
from bridge.core.runs.model import Run
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.lifecycle import Clock
from bridge.ports.store import Store
from bridge.steps._crew import Crew
from bridge.steps._pending_questions import ASK_EVERY

ASK_AGAIN = 60.0  # seconds, after an internal error

log = structlog.get_logger()


class AskPendingQuestions:
    """Looks for the runs of kept questions; `ask` puts a question to a run. Items: a crew and a kickoff id."""

    name = "early"
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
        """Questions whose run it is time to look for."""
        now = self._clock()
        crews = self._crews.values()
        due = [(crew.name, kickoff_id) for crew in crews for kickoff_id in crew.questions.due(now)][:room]
        for name, kickoff_id in due:
            self._crews[name].questions.paused_seconds(kickoff_id, now)
        return due

    async def handle(self, item: tuple[str, str]) -> None:
        """Ask, if the run is known by now; forget what nobody can be asked any more."""
        name, kickoff_id = item
        questions = self._crews[name].questions
        if (kept := questions.get(kickoff_id)) is None:
            return
        run = await self._store.find_execution(name, kickoff_id)
        if run is not None:
            await self._ask(run, kept.content)
        elif self._clock() < kept.until:
            return
        else:
            log.warning("human_input_unmatched", crew=name, kickoff_id=kickoff_id)
        questions.drop(kickoff_id)

    def about(self, item: tuple[str, str]) -> dict[str, object]:
        """Which execution asks."""
        name, kickoff_id = item
        return {"crew": name, "kickoff_id": kickoff_id}

    async def quarantine(self, item: tuple[str, str]) -> None:
        """Look for its run less often."""
        name, kickoff_id = item
        self._crews[name].questions.paused_seconds(kickoff_id, self._clock(), ASK_AGAIN)

    def pause(self) -> float:
        """Seconds until the next look."""
        return ASK_EVERY
