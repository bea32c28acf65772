"""Replay the kickoff journal at startup: give runs the kickoff ids that the store did not take in time."""

from collections.abc import Mapping

import structlog

from bridge.core.crew.webhooks import CrewWebhook
from bridge.core.errors import StoreBroken, StoreDamaged, StoreUnavailable
from bridge.core.runs import state_machine
from bridge.core.runs.model import Run, State
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.journal import Journal, JournalEntry
from bridge.ports.lifecycle import Clock, ReportFault
from bridge.ports.runs import RunStore
from bridge.steps._conflicts import adopt
from bridge.steps._crew import Crew

log = structlog.get_logger()


async def replay_journal(
    journal: Journal, crews: Mapping[str, Crew], store: RunStore, clock: Clock, report: ReportFault
) -> None:
    """Apply every entry, then clear the journal; runs before anything else uses the store.

    An entry of a crew that is not configured keeps the whole journal. Replaying is idempotent.
    """
    entries = journal.entries()
    done = [await _apply_safely(entry, crews, store, clock, report) for entry in entries]
    if entries and all(done):
        journal.clear()


async def _apply_safely(
    entry: JournalEntry, crews: Mapping[str, Crew], store: RunStore, clock: Clock, report: ReportFault
) -> bool:
    """Apply an entry; report an unexpected exception, which keeps the entry for the next start."""
    try:
        return await _apply(entry, crews, store, clock)
    except (StoreUnavailable, StoreBroken, StoreDamaged):
        raise
    except Exception as error:  # noqa: BLE001 - no entry may keep the bridge from starting
        report(Quarantined.RUN, error, run_id=entry.run_id, kickoff_id=entry.kickoff_id, task="journal")
        return False


async def _apply(entry: JournalEntry, crews: Mapping[str, Crew], store: RunStore, clock: Clock) -> bool:
    """Apply an entry; return whether the journal no longer needs it."""
    run = await store.load(entry.run_id)
    if run is None or run.kickoff_id == entry.kickoff_id:
        return True  # already stored, or its run is gone
    if run.crew not in crews:
        return False
    policy = crews[run.crew].policy
    if run.state is State.STARTING and run.attempt <= entry.attempt:  # less, if the store is a restored backup
        doubted = await store.apply(state_machine.on_interrupted_kickoff(run, policy, clock()))
        run = doubted if isinstance(doubted, Run) else run
    if await adopt(run, entry.attempt, CrewWebhook(entry.kickoff_id), policy, store, clock) is None:
        reason = f"the run is {run.state}"
        log.error("journal_entry_rejected", **run.log_fields, kickoff_id=entry.kickoff_id, reason=reason)
    return True
