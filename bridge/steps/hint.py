"""Step 10: take a hint from the crew API's webhooks."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from bridge.core import hints, lifecycle, tokens
from bridge.core.errors import ExecutionTaken
from bridge.core.model import Run, State
from bridge.ports import Clock, PassedHint, Store, Wake
from bridge.steps.crew import Crew

log = structlog.get_logger()


class TakeHint:
    """`ports.TakeHint`: brings lost executions back to their runs, and makes us look when it is worth it."""

    def __init__(
        self,
        key: bytes,
        crews: Mapping[str, Crew],
        store: Store,
        clock: Clock,
        wake_poll: Callable[[str], None],
        wake_recover: Wake,
    ) -> None:
        self._key = key
        self._crews = crews
        self._store = store
        self._clock = clock
        self._wake_poll = wake_poll
        self._wake_recover = wake_recover

    async def __call__(self, token: str, kind: hints.Kind, read: Callable[[], Awaitable[Any]]) -> bool:
        """Whether the token was one of ours; a forged one costs a hash and nothing else."""
        attempt = tokens.read(self._key, token)
        if attempt is None:
            return False
        run = await self._store.load(attempt.run_id)
        if run is None or run.crew not in self._crews:
            return False
        content = await read()
        hint = hints.read(kind, content)
        if not self._store.owned_elsewhere(run):
            await self._take(run, attempt, hint)
        elif hint.worth_a_look or run.state is State.STARTING:
            await self._store.pass_on(PassedHint(attempt.run_id, attempt.number, kind, content))
        return True

    async def passed_on(self, passed: PassedHint) -> None:
        """A hint for a run of this process that reached another one."""
        run = await self._store.load(passed.run_id)
        if run is not None and run.crew in self._crews:
            attempt = tokens.Attempt(passed.run_id, passed.attempt)
            await self._take(run, attempt, hints.read(passed.kind, passed.content))

    async def _take(self, run: Run, attempt: tokens.Attempt, hint: hints.Hint) -> None:
        crew = self._crews[run.crew]
        if not run.final:
            crew.heard.add(run.run_id)
        if run.state is State.RUNNING and hint.worth_a_look:
            crew.announced[run.run_id] = hint.testimony or crew.announced.get(run.run_id)
            crew.timetable.hasten(run.run_id)
            self._wake_poll(run.crew)
        elif attempt.number != run.attempt or hint.kickoff_id is None:
            return
        elif run.state is State.STARTING:
            crew.evidence[run.run_id] = hint.kickoff_id  # the answer to the POST is still awaited
        elif run.state is State.IN_DOUBT:
            await self._adopt(run, hint.kickoff_id, crew)

    async def _adopt(self, run: Run, kickoff_id: str, crew: Crew) -> None:
        try:
            await self._store.settle(lifecycle.on_evidence(run, kickoff_id, crew.policy, self._clock()))
        except ExecutionTaken:
            log.error("kickoff_id_taken", run_id=run.run_id, crew=run.crew, kickoff_id=kickoff_id)  # noqa: TRY400 - no bug
            return
        log.info("execution_found", run_id=run.run_id, crew=run.crew)
        self._wake_recover()
