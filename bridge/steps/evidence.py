"""Giving a run its execution, which nobody else may have."""

from collections.abc import Awaitable

import structlog

from bridge.core import lifecycle
from bridge.core.errors import ExecutionTaken
from bridge.core.model import CrewPolicy, Run
from bridge.ports import Store

log = structlog.get_logger()


async def adopt(run: Run, kickoff_id: str, policy: CrewPolicy, store: Store, now: float) -> Run | None:
    """The run in doubt, with the execution that was found for it; None if that one belongs to another run."""
    decision = lifecycle.on_evidence(run, kickoff_id, policy, now)
    found = await unless_taken(decision.run, store.settle(decision))
    if found is not None:
        log.info("execution_found", run_id=run.run_id, crew=run.crew)
    return found


async def unless_taken(run: Run, write: Awaitable[Run]) -> Run | None:
    """What `write` made of the run, to which it gives an execution; None if that one belongs to another run.

    No crew should name an execution twice; one that does must not stop us.
    """
    try:
        return await write
    except ExecutionTaken:
        log.error("kickoff_id_taken", run_id=run.run_id, crew=run.crew, kickoff_id=run.kickoff_id)  # noqa: TRY400 - no bug
        return None
