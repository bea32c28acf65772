"""Writes to a run that other steps or processes may write concurrently."""

from collections.abc import Callable
from typing import Literal

import structlog

from bridge.core.crew.webhooks import CrewWebhook
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import webhooks
from bridge.core.runs.model import Decision, Run, State
from bridge.ports.lifecycle import Clock
from bridge.ports.runs import Conflict, RunStore

log = structlog.get_logger()


async def retry_on_conflict(
    store: RunStore, run: Run, decide: Callable[[Run], Decision | None], *, retry: bool = True
) -> Run | Literal[Conflict.EXECUTION_TAKEN] | None:
    """Decide and write; after a concurrent write, decide again on the run as stored by then. `retry`: as for `apply`.

    Return None if there is nothing to write or the run is gone. The loop ends: each conflict means that another write
    has succeeded.
    """
    latest: Run | None = run
    while latest is not None and (decision := decide(latest)) is not None:
        written = await store.apply(decision, retry=retry)
        if written is not Conflict.STALE:
            return written
        latest = await store.load(run.run_id)
    return None


async def adopt(
    run: Run, attempt: int, evidence: CrewWebhook, policy: CrewPolicy, store: RunStore, clock: Clock
) -> Run | None:
    """Reconcile a run, as stored by now, with the execution that this attempt has started.

    Return None if the run does not need the evidence, or if the execution belongs to another run.
    """
    adopted = await retry_on_conflict(
        store, run, lambda latest: webhooks.on_evidence(latest, attempt, evidence, policy, clock())
    )
    if adopted is Conflict.EXECUTION_TAKEN:
        log_taken(run, evidence.kickoff_id)
        return None
    if adopted is not None:
        log_adoption(adopted)
    return adopted


def log_adoption(run: Run) -> None:
    """Log the execution found for a run; if the run has already ended, the execution may still cost money."""
    if run.state is State.RUNNING:
        log.info("execution_adopted", **run.log_fields)
    else:
        log.warning("late_execution_found", **run.log_fields, kickoff_id=run.kickoff_id)


def log_taken(run: Run, kickoff_id: str | None) -> None:
    """Log that an execution belongs to another run. A crew API should never return one id twice."""
    log.error("kickoff_id_taken", **run.log_fields, kickoff_id=kickoff_id)
