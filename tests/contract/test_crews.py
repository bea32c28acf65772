"""Contract of crews: a process never claims a run of a crew that it does not have."""

from bridge.adapters.store import SqlStore
from bridge.core.crew.fair_share import Membership
from bridge.core.crew.webhooks import Kind
from bridge.core.runs import state_machine
from bridge.core.runs.model import State
from bridge.ports.webhook_inbox import InboxEntry
from tests.contract.conftest import Adapter, silence
from tests.contract.run_states import POLICY, accepted, ids, in_doubt, started
from tests.fakes import NOW, a_run, applied

ANY = {State.STARTING, State.RUNNING, State.WAITING_FOR_HUMAN}


async def freed(adapter: Adapter, store: SqlStore) -> None:
    """Its process expires."""
    silence(adapter, "me", 20)
    await store.cluster.expire_processes(NOW, 9)


async def test_a_claim_names_crews(adapter: Adapter, store: SqlStore):
    """A process without the crew claimed its runs and kept them."""
    run = await started(store)
    other = await adapter.twin(store, "other", crews=["writers"])
    await freed(adapter, store)
    assert await other.claim(ANY, ["writers", "editors"], 9) == []
    assert await other.claim(ANY, ["writers"], 9, NOW + 9e9) == []
    assert ids(await other.claim(ANY, ["writers", "research"], 9)) == [run.run_id]


async def test_runs_of_a_crew_without_a_process_are_counted(adapter: Adapter, store: SqlStore):
    await accepted(store, 1)
    await started(store, 2)
    for number, crew in ((3, "writers"), (4, "writers"), (5, "editors"), (6, "a")):
        await store.accept(a_run(number, crew=crew))
    assert await store.cluster.unserved() == {"a": 1, "editors": 1, "writers": 2}
    other = await adapter.twin(store, "other", crews=["writers", "editors"])
    assert await store.cluster.unserved() == {"a": 1}
    assert await store.queries.crews_served() == {"research", "writers", "editors"}
    await freed(adapter, store)
    assert await other.cluster.unserved() == {"a": 1, "research": 2}
    await store.cluster.rejoin(NOW)
    assert await other.cluster.unserved() == {"a": 1}


async def test_an_ended_run_waits_for_no_crew(store: SqlStore):
    run = (await store.accept(a_run(crew="writers"))).run
    await applied(store, state_machine.on_cancelled(run, POLICY, NOW))
    assert await store.cluster.unserved() == {}


async def test_the_membership_counts_the_processes_of_each_crew(adapter: Adapter, store: SqlStore):
    await started(store, 1)
    await adapter.twin(store, "same")
    other = await adapter.twin(store, "other", crews=["research", "writers"])
    assert await store.cluster.membership() == {"research": Membership(processes=3, runs_in_progress=1, own_runs=1)}
    assert await other.cluster.membership() == {
        "research": Membership(processes=3, runs_in_progress=1, own_runs=0),
        "writers": Membership(processes=1, runs_in_progress=0, own_runs=0),
    }


async def test_a_webhook_for_a_run_in_doubt_waits_for_a_process_with_its_crew(adapter: Adapter, store: SqlStore):
    """Another process claimed it, could not apply it, and lost it."""
    run = await in_doubt(store)
    other = await adapter.twin(store, "other", crews=["writers"])
    entry = InboxEntry("1", "research", Kind.CREW, {"kickoff_id": "k-1"}, NOW, run.run_id, 1)
    await other.inbox.add(entry)
    await freed(adapter, store)
    assert await other.inbox.due(9, NOW, ()) == []
    await store.cluster.rejoin(NOW)
    assert await store.inbox.due(9, NOW, ()) == [entry]


async def test_runs_of_a_removed_crew_are_released_before_the_next_claim(adapter: Adapter, store: SqlStore):
    """No claim waits for the store to be available: a stop during an outage would wait with it."""
    run = await started(store)
    other = await adapter.twin(store, "other")
    store.cluster.release_crews(["writers"])
    assert await store.claim(ANY, ["writers"], 9) == []
    assert await other.claim(ANY, ["research"], 9) == []
    store.cluster.release_crews(["research"])
    assert await store.claim(ANY, ["writers"], 9) == []
    assert ids(await other.claim(ANY, ["research"], 9)) == [run.run_id]
