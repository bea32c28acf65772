"""What processes on one store promise each other, on every database."""

import asyncio

import pytest
from structlog.testing import capture_logs

from bridge.adapters.store import SqlStore
from bridge.core.crew.fair_share import Membership
from bridge.core.crew.webhooks import Kind
from bridge.core.errors import Stale
from bridge.core.runs import state_machine
from bridge.core.runs.model import State
from bridge.ports.store import RelayedWebhook
from tests.contract.conftest import Adapter, silence
from tests.contract.histories import POLICY, accepted, claimed, end_of, ids, refused, started
from tests.fakes import NOW


async def test_a_census_counts_processes_and_runs_under_way(adapter: Adapter, store: SqlStore):
    await accepted(store, 1)
    await refused(store, 2)
    await started(store, 3)
    other = await adapter.twin(store, "other")
    await started(other, 4)
    assert await store.membership() == {"research": Membership(processes=2, runs_in_progress=2, own_runs=1)}


async def test_a_run_that_is_handed_over_is_free_and_its_old_owner_is_stale(adapter: Adapter, store: SqlStore):
    run = await started(store, 1)
    kept = await started(store, 2)
    other = await adapter.twin(store, "other")
    assert await store.release_runs([run.run_id]) == 1
    assert ids(await other.claim({State.RUNNING}, 9)) == [run.run_id]
    with pytest.raises(Stale):
        await store.apply(end_of(run))
    await store.apply(end_of(kept))


async def test_only_what_this_process_follows_can_be_handed_over(adapter: Adapter, store: SqlStore):
    starting = await store.apply(state_machine.begin(await claimed(store, 1), NOW))
    run = await started(store, 2)
    other = await adapter.twin(store, "other")
    assert await other.release_runs([run.run_id, starting.run_id]) == 0
    assert await store.release_runs([run.run_id, starting.run_id]) == 1


async def test_a_buried_process_lives_on_under_another_name(adapter: Adapter, store: SqlStore):
    run = await started(store)
    other = await adapter.twin(store, "other")
    silence(adapter, "me", 20)
    await other.expire_processes(NOW, 9)
    assert await store.rejoin(NOW) == "me-2"
    await store.heartbeat(NOW)
    assert ids(await store.claim({State.RUNNING}, 9)) == [run.run_id]
    assert (await store.membership())["research"].own_runs == 1
    loaded = await store.load(run.run_id)
    assert loaded is not None
    assert (store.owned_elsewhere(loaded), other.owned_elsewhere(loaded)) == (False, True)


async def test_a_hint_reaches_the_owner_once_whoever_got_it(adapter: Adapter, store: SqlStore):
    run = await started(store)
    other = await adapter.twin(store, "other")
    webhook = RelayedWebhook(run.run_id, 1, Kind.CREW, {"result": "größe 🦉 \x00", "n": 2**70})
    await other.relay_webhook(webhook)
    await other.relay_webhook(webhook)
    assert await other.collect_webhooks(9) == []
    assert await store.collect_webhooks(9) == [webhook]
    assert await store.collect_webhooks(9) == []


@pytest.mark.parametrize("content", [b"[" * 100_000 + b"]" * 100_000, b"{", b"\xff"], ids=["deep", "torn", "bytes"])
async def test_a_hint_that_cannot_be_read_goes_and_takes_no_other_with_it(
    adapter: Adapter, store: SqlStore, content: bytes
):
    """It stayed, and ended the process that was to take it, at every start."""
    run = await started(store)
    other = await adapter.twin(store, "other")
    await other.relay_webhook(RelayedWebhook(run.run_id, 1, Kind.HUMAN, None))
    adapter.execute("UPDATE relayed_webhooks SET content = %s", content)
    webhook = RelayedWebhook(run.run_id, 1, Kind.CREW, {"result": "done"})
    await other.relay_webhook(webhook)
    with capture_logs() as logs:
        assert await store.collect_webhooks(9) == [webhook]
    assert [(entry["event"], entry["run_id"]) for entry in logs] == [("crew_webhook_discarded", run.run_id)]
    assert adapter.execute("SELECT count(*) FROM relayed_webhooks") == [(0,)]


async def test_hints_go_with_their_run(adapter: Adapter, store: SqlStore):
    run = await refused(store)
    await store.relay_webhook(RelayedWebhook(run.run_id, 1, Kind.CREW, None))
    assert await store.forget(NOW + 1, 9) == 0  # its event is not delivered yet
    adapter.execute("DELETE FROM deliveries")
    assert await store.forget(NOW + 1, 9) == 1
    assert adapter.execute("SELECT count(*) FROM relayed_webhooks") == [(0,)]


async def test_three_processes_never_hold_more_places_than_there_are(adapter: Adapter, store: SqlStore):
    """Each claims and ends runs as fast as it can; counting and taking must be one act among them all."""
    await asyncio.gather(*(accepted(store, number) for number in range(1, 61)))
    processes = [store, await adapter.twin(store, "second"), await adapter.twin(store, "third")]
    held, most = 0, 0

    async def work(process: SqlStore) -> None:
        nonlocal held, most
        while (await process.counts())["runs"].get("accepted"):
            runs = await process.claim_accepted("research", 3, 5, NOW)
            held += len(runs)
            most = max(most, held)
            for run in runs:
                held -= 1
                await process.apply(state_machine.on_cancelled(run, POLICY, NOW))

    await asyncio.gather(*map(work, processes))
    assert (await store.counts())["runs"] == {"cancelled": 60}
    assert 1 < most <= 5
