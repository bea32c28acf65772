"""Giving a run its execution, which nobody else may have."""

from collections.abc import Awaitable

import structlog

from bridge.core import lifecycle
from bridge.core.errors import ExecutionTaken
from bridge.core.model import CrewPolicy, Run, State
from bridge.ports import Clock, Store
from bridge.steps.latest import settle_latest

log = structlog.get_logger()


async def adopt(run: Run, attempt: int, kickoff_id: str, policy: CrewPolicy, store: Store, clock: Clock) -> Run | None:
    """Reconcile a run, as it is by now, with the execution that this attempt has started.

    None: the run needs no such evidence, or the execution belongs to another run.
    """
    found = await unless_taken(
        run,
        kickoff_id,
        settle_latest(
            store, run, lambda latest: lifecycle.on_evidence(latest, kickoff_id, policy, clock(), attempt=attempt)
        ),
    )
    if found is not None:
        log_found(found)
    return found


def log_found(run: Run) -> None:
    """Log the execution that was found for a run; one of a run that has ended may still cost money."""
    if run.state is State.RUNNING:
        log.info("execution_found", run_id=run.run_id, crew=run.crew)
    else:
        log.warning("execution_found_late", run_id=run.run_id, crew=run.crew, kickoff_id=run.kickoff_id)


async def unless_taken(run: Run, kickoff_id: str | None, write: Awaitable[Run | None]) -> Run | None:
    """What `write` made of the run, to which it gives an execution; None if that one belongs to another run.

    No crew should name an execution twice; one that does must not stop us.
    """
    try:
        return await write
    except ExecutionTaken:
        log.error("kickoff_id_taken", run_id=run.run_id, crew=run.crew, kickoff_id=kickoff_id)  # noqa: TRY400 - no bug
        return None
