"""Local handoff: a delivery written by this process is handed to its own sender without a claim."""

import asyncio

import pytest

from bridge.adapters.store import SqlStore, group_commit
from bridge.adapters.store.database import database, open_connections
from bridge.adapters.store.local_handoff import ASK_STORE_INTERVAL, MAX_DELIVERIES, REQUESTED_WITHIN
from bridge.adapters.store.queries import runs as run_queries
from bridge.core.delivery import events
from bridge.core.delivery.model import Channel
from bridge.core.delivery.outcome import Confirmed, outcome_of_attempt
from bridge.core.errors import StoreUnavailable
from bridge.core.runs import state_machine
from bridge.core.runs.cache import RunCache
from bridge.core.runs.model import Decision
from bridge.ports.queries import RunFilter
from bridge.ports.runs import Conflict
from tests.contract.conftest import Adapter, LossyConnection, silence
from tests.contract.run_states import POLICY, accepted, end_of, in_doubt, refused, started
from tests.fakes import NOW, a_delivery, applied, without_body

TO_BROKER = (Channel.EXCHANGE, Channel.QUEUE)


@pytest.fixture
async def with_sender(lossy: SqlStore) -> SqlStore:
    """A store with a sender that waits for deliveries."""
    assert await lossy.deliveries.claim(TO_BROKER, 100, NOW) == []
    return lossy


async def test_a_delivery_is_sent_without_a_claim(adapter: Adapter, with_sender: SqlStore):
    run = await refused(with_sender)
    assert adapter.execute("SELECT owner FROM deliveries") == [("me",)]
    [sent] = await with_sender.deliveries.claim(TO_BROKER, 100, NOW)
    await with_sender.deliveries.record_outcome(outcome_of_attempt(sent, Confirmed(), NOW))
    assert await with_sender.queries.deliveries_for_run(run.run_id) == [
        without_body(outcome_of_attempt(sent, Confirmed(), NOW).delivery)
    ]


async def test_a_delivery_is_handed_off_once(adapter: Adapter, with_sender: SqlStore):
    other = await adapter.twin(with_sender, "other")
    for number in range(9):
        await refused(with_sender, number)
    assert await other.deliveries.claim(TO_BROKER, 100, NOW) == []
    parts = [await with_sender.deliveries.claim(TO_BROKER, 4, NOW) for _ in range(4)]
    assert [len(part) for part in parts] == [4, 4, 1, 0]
    assert len({one.delivery_id for part in parts for one in part}) == 9


async def test_without_a_waiting_sender_a_delivery_stays_unclaimed(adapter: Adapter, store: SqlStore):
    await refused(store, 1)
    await store.deliveries.claim([Channel.CALLBACK], 9, NOW)
    await refused(store, 2)
    await store.deliveries.claim(TO_BROKER, 0, NOW)
    await refused(store, 3, at=NOW + REQUESTED_WITHIN)
    other = await adapter.twin(store, "other")
    assert len(await other.deliveries.claim(TO_BROKER, 9, NOW + REQUESTED_WITHIN)) == 3


async def test_deliveries_of_other_processes_are_claimed_as_well(with_sender: SqlStore):
    await with_sender.deliveries.add([a_delivery(1, Channel.QUEUE)])
    await refused(with_sender)
    assert len(await with_sender.deliveries.claim(TO_BROKER, 9, NOW)) == 1
    await refused(with_sender, 2)
    assert len(await with_sender.deliveries.claim(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL)) == 2


async def test_a_backlog_is_processed_at_full_rate_beside_handoffs(with_sender: SqlStore):
    await with_sender.deliveries.add([a_delivery(number, Channel.QUEUE) for number in range(20)])
    assert len(await with_sender.deliveries.claim(TO_BROKER, 5, NOW)) == 5
    await refused(with_sender)
    assert len(await with_sender.deliveries.claim(TO_BROKER, 5, NOW)) == 5
    await refused(with_sender, 2)
    assert len(await with_sender.deliveries.claim(TO_BROKER, 5, NOW)) == 5


async def test_deliveries_of_other_processes_have_their_turn_beside_many_handoffs(with_sender: SqlStore):
    await with_sender.deliveries.add([a_delivery(1, Channel.QUEUE)])
    for number in range(9):
        await refused(with_sender, number)
    later = NOW + ASK_STORE_INTERVAL
    taken = [one.destination.channel for one in await with_sender.deliveries.claim(TO_BROKER, 5, later)]
    assert (len(taken), taken.count(Channel.QUEUE)) == (5, 1)


async def test_a_single_slot_belongs_to_the_older_deliveries_in_the_store(with_sender: SqlStore):
    await with_sender.deliveries.add([a_delivery(number, Channel.QUEUE) for number in range(9)])
    assert len(await with_sender.deliveries.claim(TO_BROKER, 1, NOW)) == 1
    for number in range(9):
        await refused(with_sender, number)
    taken = [one.destination.channel for _ in range(4) for one in await with_sender.deliveries.claim(TO_BROKER, 1, NOW)]
    assert taken == [Channel.QUEUE] * 4


async def test_a_handed_off_delivery_survives_a_failing_claim(with_sender: SqlStore, connection: LossyConnection):
    await refused(with_sender)
    await with_sender.deliveries.add([a_delivery(2, Channel.QUEUE)])
    later = NOW + ASK_STORE_INTERVAL
    connection.lose()
    assert [one.destination.channel for one in await with_sender.deliveries.claim(TO_BROKER, 9, later)] == [
        Channel.EXCHANGE
    ]
    assert [one.destination.channel for one in await with_sender.deliveries.claim(TO_BROKER, 9, later)] == [
        Channel.QUEUE
    ]


async def test_a_lost_confirmation_leaves_the_delivery_with_its_writer(
    with_sender: SqlStore, connection: LossyConnection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(group_commit, "RETRY_INTERVAL", 0.01)
    run = await started(with_sender)
    connection.lose()
    await applied(with_sender, end_of(run))
    assert len(await with_sender.deliveries.claim(TO_BROKER, 9, NOW)) == 1
    assert await with_sender.deliveries.claim(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL) == []


async def test_a_lost_confirmation_of_an_end_decided_without_the_inputs(
    with_sender: SqlStore, connection: LossyConnection, monkeypatch: pytest.MonkeyPatch
):
    """The cached run is still known for what was written."""
    monkeypatch.setattr(group_commit, "RETRY_INTERVAL", 0.01)
    run = await started(with_sender)
    recent = RunCache()
    recent.put(run)
    connection.lose()
    in_mind = recent.pop(run.run_id)
    assert in_mind is not None
    await applied(with_sender, end_of(in_mind))
    assert len(await with_sender.deliveries.claim(TO_BROKER, 9, NOW)) == 1


async def test_a_decision_repeated_after_a_conflict_is_sent_once(with_sender: SqlStore):
    """It has the same ids: releasing by them must not release what is being sent."""
    run = await started(with_sender)
    newer = await applied(with_sender, Decision(run))
    assert await with_sender.apply(end_of(run)) is Conflict.STALE
    await applied(with_sender, end_of(newer))
    assert len(await with_sender.deliveries.claim(TO_BROKER, 1, NOW)) == 1
    assert await with_sender.deliveries.claim(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL) == []


async def test_a_decision_repeated_after_a_conflict_is_not_released_for_its_lost_first_attempt(
    with_sender: SqlStore, connection: LossyConnection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(group_commit, "RETRY_INTERVAL", 0.3)
    run = await started(with_sender)
    connection.lose(written=False)
    writing = asyncio.create_task(with_sender.apply(end_of(run)))
    await asyncio.sleep(0)
    await with_sender.cluster.heartbeat(NOW)  # after the first attempt, before the second
    newer = await applied(with_sender, Decision(run))
    assert await writing is Conflict.STALE
    await applied(with_sender, end_of(newer))
    assert len(await with_sender.deliveries.claim(TO_BROKER, 1, NOW)) == 1
    assert await with_sender.deliveries.claim(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL) == []


async def test_a_cancelled_writer_leaves_the_delivery_to_others(with_sender: SqlStore):
    """The write is committed, and no worker of this process has the delivery."""
    run = await started(with_sender)
    writing = asyncio.create_task(with_sender.apply(end_of(run)))
    await asyncio.sleep(0)  # the write is submitted
    writing.cancel()
    await asyncio.wait([writing])
    await with_sender.cluster.heartbeat(NOW)
    stored = await with_sender.load(run.run_id)
    assert stored is not None
    assert stored.final
    assert len(await with_sender.deliveries.claim(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL)) == 1


async def test_a_writer_that_does_not_retry_leaves_the_delivery_to_others(
    with_sender: SqlStore, connection: LossyConnection
):
    """The write is committed, although its caller received an error."""
    run = await started(with_sender)
    connection.lose()
    with pytest.raises(StoreUnavailable):
        await with_sender.apply(end_of(run), retry=False)
    stored = await with_sender.load(run.run_id)
    assert stored is not None
    assert stored.final
    assert len(await with_sender.deliveries.claim(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL)) == 1


async def test_a_writer_that_becomes_stale_leaves_the_delivery_to_others(
    with_sender: SqlStore, connection: LossyConnection, monkeypatch: pytest.MonkeyPatch
):
    """Its first attempt was committed without a confirmation, and another process has written since."""
    monkeypatch.setattr(group_commit, "RETRY_INTERVAL", 0.3)
    run = await started(with_sender)
    connection.lose()
    question = events.with_event(run, events.WAITING_FOR_HUMAN, POLICY, NOW)
    writing = asyncio.create_task(with_sender.apply(question))
    await asyncio.sleep(0)
    await with_sender.cluster.heartbeat(NOW)  # after the first attempt, before the second
    written = await with_sender.load(run.run_id)
    assert written is not None
    await applied(with_sender, Decision(written))
    assert await writing is Conflict.STALE
    assert len(await with_sender.deliveries.claim(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL)) == 1


async def test_an_expired_process_owns_nothing_that_it_writes(adapter: Adapter, with_sender: SqlStore):
    """No process would ever release it."""
    run = await in_doubt(with_sender)
    for one in await with_sender.deliveries.claim(TO_BROKER, 9, NOW):
        await with_sender.deliveries.record_outcome(outcome_of_attempt(one, Confirmed(), NOW))
    other = await adapter.twin(with_sender, "other")
    silence(adapter, "me", 20)
    await other.cluster.expire_processes(NOW, 9)
    [freed] = (await other.queries.find_runs(RunFilter())).items
    assert freed.run_id == run.run_id
    await applied(with_sender, events.with_event(freed, events.IN_DOUBT, POLICY, NOW, sequence=2))
    assert len(await other.deliveries.claim(TO_BROKER, 9, NOW)) == 1


async def test_an_expired_process_owns_nothing_beside_a_write_after_its_rejoin(adapter: Adapter, with_sender: SqlStore):
    """Both are in one batch: a decision from before the expiry, and one under the new name."""
    old, new = await accepted(with_sender, 1), await accepted(with_sender, 2)
    cancelled = [state_machine.on_cancelled(run, POLICY, NOW) for run in (old, new)]
    before = run_queries.WriteRequest(cancelled[0], "me", cancelled[0].deliveries)
    adapter.execute("DELETE FROM processes")
    await with_sender.cluster.rejoin(NOW)
    after = run_queries.WriteRequest(cancelled[1], "me-2", cancelled[1].deliveries)
    async with open_connections(database(adapter.url).writer()) as writer:
        await writer.run(lambda connection: run_queries.write_decisions(connection, [after, before]))
    assert adapter.execute("SELECT owner FROM deliveries ORDER BY delivery_id") == [(None,), ("me-2",)]


async def test_unsent_handoffs_are_released_when_the_sender_is_not_ready(adapter: Adapter, with_sender: SqlStore):
    await refused(with_sender)
    other = await adapter.twin(with_sender, "other")
    later = NOW + 2 * REQUESTED_WITHIN + 1
    await with_sender.cluster.heartbeat(later)
    assert len(await other.deliveries.claim(TO_BROKER, 9, later)) == 1
    assert await with_sender.deliveries.claim(TO_BROKER, 9, later) == []


async def test_a_failed_release_is_repeated(with_sender: SqlStore, connection: LossyConnection):
    await refused(with_sender)
    later = NOW + 2 * REQUESTED_WITHIN + 1
    connection.lose(2, written=False)  # the first one is the heartbeat
    with pytest.raises(StoreUnavailable):
        await with_sender.cluster.heartbeat(later)
    assert len(await with_sender.deliveries.claim(TO_BROKER, 9, later)) == 1


async def test_only_as_many_handoffs_are_kept_as_are_soon_sent(adapter: Adapter, with_sender: SqlStore):
    for number in range(MAX_DELIVERIES + 3):
        await refused(with_sender, number)
    assert adapter.execute("SELECT COUNT(*) FROM deliveries WHERE owner IS NULL") == [(3,)]
    taken = [await with_sender.deliveries.claim(TO_BROKER, 100, NOW) for _ in range(3)]
    assert sum(map(len, taken)) == MAX_DELIVERIES + 3


async def test_closing_releases_unsent_handoffs(adapter: Adapter):
    async with adapter.open() as store:
        await store.deliveries.claim(TO_BROKER, 9, NOW)
        await refused(store)
    async with adapter.open("other") as store:
        assert len(await store.deliveries.claim(TO_BROKER, 9, NOW)) == 1
