"""Writes to a run that other steps or processes may write concurrently."""

from collections.abc import Awaitable, Callable

import structlog

from bridge.core.crew_policy import CrewPolicy
from bridge.core.errors import ExecutionTaken, Stale
from bridge.core.runs import quarantine, state_machine
from bridge.core.runs.model import Decision, Run, State
from bridge.ports.lifecycle import Clock
from bridge.ports.runs import RunStore
from bridge.steps._crew import Crew

TRIES = 5

log = structlog.get_logger()


async def retry_on_conflict(
    store: RunStore, run: Run, decide: Callable[[Run], Decision | None], *, retry: bool = True
) -> Run | None:
    """Decide and write; after a concurrent write, decide again on the run as stored by then. `retry`: as for `apply`.

    Return None if there is nothing to write or the run is gone. Raise `Stale` after `TRIES` conflicts.
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
    raise Stale(f"run {run.run_id} is being modified concurrently")


async def adopt(
    run: Run, attempt: int, kickoff_id: str, policy: CrewPolicy, store: RunStore, clock: Clock
) -> Run | None:
    """Reconcile a run, as stored by now, with the execution that this attempt has started.

    Return None if the run does not need the evidence, or if the execution belongs to another run.
    """
    adopted = await unless_taken(
        run,
        kickoff_id,
        retry_on_conflict(
            store, run, lambda latest: state_machine.on_evidence(latest, kickoff_id, policy, clock(), attempt=attempt)
        ),
    )
    if adopted is not None:
        log_adoption(adopted)
    return adopted


def log_adoption(run: Run) -> None:
    """Log the execution found for a run; if the run has already ended, the execution may still cost money."""
    if run.state is State.RUNNING:
        log.info("execution_adopted", run_id=run.run_id, crew=run.crew)
    else:
        log.warning("execution_found_late", run_id=run.run_id, crew=run.crew, kickoff_id=run.kickoff_id)


async def unless_taken(run: Run, kickoff_id: str | None, write: Awaitable[Run | None]) -> Run | None:
    """Await a write that gives a run its execution; return None if that execution belongs to another run.

    A crew API should never return one id twice; if it does, the bridge logs it and goes on.
    """
    try:
        return await write
    except ExecutionTaken:
        log.error("kickoff_id_taken", run_id=run.run_id, crew=run.crew, kickoff_id=kickoff_id)  # noqa: TRY400 - no bug
        return None


async def quarantine_run(run_id: str, crew: Crew, store: RunStore, clock: Clock) -> None:
    """Defer a run whose step raised an unexpected exception, unless another process owns it.

    Raise `StoreUnavailable` or `Stale`.
    """
    run = await store.load(run_id)
    if run is None or store.owned_elsewhere(run):
        return
    await retry_on_conflict(
        store,
        run,
        lambda latest: None if store.owned_elsewhere(latest) else quarantine.defer(latest, crew.policy, clock()),
    )
