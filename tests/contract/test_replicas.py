"""Contract of processes on one store: membership, release, and expiry."""

import asyncio

from bridge.adapters.store import SqlStore
from bridge.core.crew.fair_share import Membership
from bridge.core.crew.responses import Refused
from bridge.core.runs import state_machine
from bridge.core.runs.model import State
from bridge.ports.runs import Conflict
from tests.contract.conftest import Adapter, silence
from tests.contract.run_states import POLICY, accepted, claimed, counts, end_of, ids, refused, started
from tests.fakes import NOW, applied


async def test_the_membership_counts_processes_and_running_runs(adapter: Adapter, store: SqlStore):
    await accepted(store, 1)
    await refused(store, 2)
    await started(store, 3)
    other = await adapter.twin(store, "other")
    await started(other, 4)
    assert await store.cluster.membership() == {"research": Membership(processes=2, runs_in_progress=2, own_runs=1)}


async def test_a_released_run_has_no_owner_and_its_former_owner_is_stale(adapter: Adapter, store: SqlStore):
    run = await started(store, 1)
    kept = await started(store, 2)
    other = await adapter.twin(store, "other")
    assert await store.cluster.release_runs([run.run_id]) == 1
    assert ids(await other.claim({State.RUNNING}, {"research"}, 9)) == [run.run_id]
    assert await store.apply(end_of(run)) is Conflict.STALE
    await applied(store, end_of(kept))


async def test_only_runs_owned_by_this_process_can_be_released(adapter: Adapter, store: SqlStore):
    starting = await claimed(store, 1)
    run = await started(store, 2)
    other = await adapter.twin(store, "other")
    assert await other.cluster.release_runs([run.run_id, starting.run_id]) == 0
    assert await store.cluster.release_runs([run.run_id, starting.run_id]) == 1


async def test_an_expired_process_rejoins_under_another_name(adapter: Adapter, store: SqlStore):
    run = await started(store)
    other = await adapter.twin(store, "other")
    silence(adapter, "me", 20)
    await other.cluster.expire_processes(NOW, 9)
    assert await store.cluster.rejoin(NOW) == "me-2"
    await store.cluster.heartbeat(NOW)
    assert ids(await store.claim({State.RUNNING}, {"research"}, 9)) == [run.run_id]
    assert (await store.cluster.membership())["research"].own_runs == 1
    loaded = await store.load(run.run_id)
    assert loaded is not None
    assert (store.owned_elsewhere(loaded), other.owned_elsewhere(loaded)) == (False, True)


async def test_three_processes_never_exceed_the_slots_together(adapter: Adapter, store: SqlStore):
    """Each claims and ends runs as fast as it can; counting and claiming must be atomic among all of them."""
    await asyncio.gather(*(accepted(store, number) for number in range(1, 61)))
    processes = [store, await adapter.twin(store, "second"), await adapter.twin(store, "third")]
    held, most = 0, 0

    async def work(process: SqlStore) -> None:
        nonlocal held, most
        while (await counts(process))["runs"].get("accepted"):
            runs = await process.claim_accepted("research", 3, 5, NOW)
            held += len(runs)
            most = max(most, held)
            for run in runs:
                held -= 1
                await applied(process, state_machine.on_kickoff(run, Refused("no"), POLICY, NOW))

    await asyncio.gather(*map(work, processes))
    assert (await counts(store))["runs"] == {"failed": 60}
    assert 1 < most <= 5
