"""Commits without a confirmation: the connection broke during the commit, which happened nevertheless."""

import asyncio
from dataclasses import replace

import pytest

from bridge.adapters.store import SqlStore, group_commit
from bridge.core.crew.responses import Started
from bridge.core.delivery.model import Channel
from bridge.core.errors import StoreUnavailable
from bridge.core.runs import state_machine
from bridge.core.runs.model import State
from tests.contract.conftest import Adapter, LossyConnection
from tests.contract.run_states import POLICY, accepted, claimed, ids, in_doubt
from tests.fakes import NOW, a_delivery, applied, run_id


async def test_a_committed_decision_is_not_mistaken_for_that_of_another_process(
    lossy: SqlStore, connection: LossyConnection, monkeypatch: pytest.MonkeyPatch
):
    """Otherwise the run would stay in `starting`, owned by a process that believes it has lost it."""
    monkeypatch.setattr(group_commit, "RETRY_INTERVAL", 0.01)
    run = await claimed(lossy)
    connection.lose()
    written = await applied(lossy, state_machine.on_kickoff(run, Started("k-1"), POLICY, NOW))
    assert written == await lossy.load(run.run_id)
    assert written.state is State.RUNNING


async def test_a_claim_for_a_kickoff_is_undone_before_the_next_claim(lossy: SqlStore, connection: LossyConnection):
    """No run was POSTed, so none is in doubt, and no attempt counts."""
    before = await accepted(lossy)
    connection.lose()
    with pytest.raises(StoreUnavailable):
        await lossy.claim_accepted("research", 9, 9, NOW)
    assert await lossy.claim({State.STARTING}, {"research"}, 9) == []
    assert await lossy.load(before.run_id) == replace(before, version=before.version + 2)
    assert [run.attempt for run in await lossy.claim_accepted("research", 9, 9, NOW)] == [1]


async def test_a_claim_that_was_rolled_back_leaves_the_runs_that_another_process_has_claimed_since(
    adapter: Adapter, lossy: SqlStore, connection: LossyConnection
):
    """The claim of the other process gave them the version that this one remembers; they may be POSTed by now."""
    run = await accepted(lossy)
    other = await adapter.twin(lossy, "other")
    connection.lose(written=False)
    with pytest.raises(StoreUnavailable):
        await lossy.claim_accepted("research", 9, 9, NOW)
    [theirs] = await other.claim_accepted("research", 9, 9, NOW)
    assert await lossy.claim_accepted("research", 9, 9, NOW) == []
    assert await lossy.load(run.run_id) == theirs


async def test_a_claim_in_states_that_was_rolled_back_leaves_the_runs_of_another_process(
    adapter: Adapter, lossy: SqlStore, connection: LossyConnection
):
    run = await in_doubt(lossy)
    other = await adapter.twin(lossy, "other")
    connection.lose(written=False)
    with pytest.raises(StoreUnavailable):
        await lossy.claim({State.IN_DOUBT}, {"research"}, 9, NOW + POLICY.in_doubt_after)
    [theirs] = await other.claim({State.IN_DOUBT}, {"research"}, 9, NOW + POLICY.in_doubt_after)
    assert await lossy.claim({State.IN_DOUBT}, {"research"}, 9, NOW + POLICY.in_doubt_after) == []
    assert await lossy.load(run.run_id) == theirs


async def test_a_claim_for_a_kickoff_is_undone_before_the_store_is_closed(
    adapter: Adapter, lossy: SqlStore, connection: LossyConnection
):
    """A run that is `starting` without an owner is put in doubt by the next process."""
    run = await accepted(lossy)
    connection.lose()
    with pytest.raises(StoreUnavailable):
        await lossy.claim_accepted("research", 9, 9, NOW)
    await lossy.close()
    after = await adapter.twin(lossy, "next")
    assert await after.claim({State.STARTING}, {"research"}, 9) == []
    assert ids(await after.claim_accepted("research", 9, 9, NOW)) == [run.run_id]


async def test_several_workers_release_them_once(lossy: SqlStore, connection: LossyConnection):
    """Two workers released them at once, each removed them from the list, and the second ended the process."""
    await accepted(lossy)
    connection.lose()
    with pytest.raises(StoreUnavailable):
        await lossy.claim_accepted("research", 9, 9, NOW)
    of_another_crew, of_this_one = await asyncio.gather(
        lossy.claim_accepted("writers", 9, 9, NOW), lossy.claim_accepted("research", 9, 9, NOW)
    )
    assert (of_another_crew, ids(of_this_one)) == ([], [run_id(1)])


async def test_claimed_deliveries_are_released_before_the_next_claim(lossy: SqlStore, connection: LossyConnection):
    await lossy.deliveries.add([a_delivery()])
    connection.lose()
    with pytest.raises(StoreUnavailable):
        await lossy.deliveries.claim([Channel.CALLBACK], 9, NOW)
    assert len(await lossy.deliveries.claim([Channel.CALLBACK], 9, NOW)) == 1
