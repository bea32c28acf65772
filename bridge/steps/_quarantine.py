"""Setting a run aside whose processing raised an unexpected exception."""

from bridge.core.runs import quarantine
from bridge.core.runs.model import State
from bridge.ports.lifecycle import Clock
from bridge.ports.store import Store
from bridge.steps._conflicts import adopt, retry_on_conflict
from bridge.steps._crew import Crew


async def set_aside(run_id: str, crew: Crew, store: Store, clock: Clock) -> None:
    """Defer the run as it is stored by now, unless another process owns it; raises `StoreUnavailable`, `Stale`.

    A run in doubt gets its execution at once if a webhook has named it.
    """
    run = await store.load(run_id)
    if run is None or store.owned_elsewhere(run):
        return
    written = await retry_on_conflict(
        store,
        run,
        lambda latest: None if store.owned_elsewhere(latest) else quarantine.defer(latest, crew.policy, clock()),
    )
    kickoff_id = crew.tracker.take_evidence(run_id)
    if written is not None and written.state is State.IN_DOUBT and kickoff_id is not None:
        await adopt(written, written.attempt, kickoff_id, crew.policy, store, clock)
