"""Deciding about a run that others may write at the same time."""

from collections.abc import Callable

from bridge.core.errors import Stale
from bridge.core.model import Decision, Run
from bridge.ports import Store

TRIES = 5


async def settle_latest(
    store: Store, run: Run, decide: Callable[[Run], Decision | None], *, patient: bool = True
) -> Run | None:
    """Decide and write, on the run as it is by then: whoever writes it meanwhile goes first; `patient`: as `settle`.

    None: there is nothing to write, or the run is gone. Raises `Stale` if others write it all the time.
    """
    latest: Run | None = run
    for _ in range(TRIES):
        decision = None if latest is None else decide(latest)
        if decision is None:
            return None
        try:
            return await store.settle(decision, patient=patient)
        except Stale:
            latest = await store.load(run.run_id)
    raise Stale(f"run {run.run_id} is being written by others all the time")
