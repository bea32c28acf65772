"""Writing a run that others may write at the same time."""

from collections.abc import Awaitable, Callable

import structlog

from bridge.core.errors import ExecutionTaken, Stale
from bridge.core.runs import state_machine
from bridge.core.runs.model import CrewPolicy, Decision, Run, State
from bridge.ports.lifecycle import Clock
from bridge.ports.store import Store

TRIES = 5


async def retry_on_conflict(
    store: Store, run: Run, decide: Callable[[Run], Decision | None], *, retry: bool = True
) -> Run | None:
    """Decide and write, on the run as it is by then: whoever writes it meanwhile goes first; `retry`: as `apply`.

    None: there is nothing to write, or the run is gone. Raises `Stale` if others write it all the time.
    """
    latest: Run | None = run
    for _ in range(TRIES):
        decision = None if latest is None else decide(latest)
        if decision is None:
            return None
        try:
            return await store.apply(decision, retry=retry)
        except Stale:
            latest = await store.load(run.run_id)
    raise Stale(f"run {run.run_id} is being written by others all the time")


log = structlog.get_logger()


async def adopt(run: Run, attempt: int, kickoff_id: str, policy: CrewPolicy, store: Store, clock: Clock) -> Run | None:
    """Reconcile a run, as it is by now, with the execution that this attempt has started.

    None: the run needs no such evidence, or the execution belongs to another run.
    """
    found = await unless_taken(
        run,
        kickoff_id,
        retry_on_conflict(
            store, run, lambda latest: state_machine.on_evidence(latest, kickoff_id, policy, clock(), attempt=attempt)
        ),
    )
    if found is not None:
        log_found(found)
    return found


def log_found(run: Run) -> None:
    """Log the execution that was found for a run; one of a run that has ended may still cost money."""
    if run.state is State.RUNNING:
        log.info("execution_adopted", run_id=run.run_id, crew=run.crew)
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
