"""A delivery that this process has written is its own at once, wherever somebody waits to send it."""

import asyncio

import pytest

from bridge.adapters.store import SqlStore
from bridge.adapters.store import store as store_module
from bridge.adapters.store.database import database, opened
from bridge.adapters.store.local_handoff import ASK_STORE_INTERVAL, MOST, REQUESTED_WITHIN
from bridge.adapters.store.queries import runs as run_queries
from bridge.core.delivery import cloudevents
from bridge.core.delivery.model import Channel
from bridge.core.delivery.outcome import Confirmed, outcome_of_attempt
from bridge.core.errors import Stale, StoreUnavailable
from bridge.core.runs import state_machine
from bridge.core.runs.cache import RunCache
from bridge.core.runs.model import Decision
from bridge.ports.queries import RunFilter
from tests.contract.conftest import Adapter, Line, silence
from tests.contract.histories import POLICY, accepted, end_of, in_doubt, refused, started
from tests.fakes import NOW, a_delivery, without_body

TO_BROKER = (Channel.EXCHANGE, Channel.QUEUE)


@pytest.fixture
async def asked(lossy: SqlStore) -> SqlStore:
    """A store whose deliveries somebody waits for."""
    assert await lossy.claim_deliveries(TO_BROKER, 100, NOW) == []
    return lossy


async def test_it_is_sent_without_being_claimed(adapter: Adapter, asked: SqlStore):
    run = await refused(asked)
    assert adapter.execute("SELECT owner FROM deliveries") == [("me",)]
    [sent] = await asked.claim_deliveries(TO_BROKER, 100, NOW)
    await asked.record_outcome(outcome_of_attempt(sent, Confirmed(), NOW))
    assert await asked.deliveries_for_run(run.run_id) == [
        without_body(outcome_of_attempt(sent, Confirmed(), NOW).delivery)
    ]


async def test_it_is_handed_out_once(adapter: Adapter, asked: SqlStore):
    other = await adapter.twin(asked, "other")
    for number in range(9):
        await refused(asked, number)
    assert await other.claim_deliveries(TO_BROKER, 100, NOW) == []
    parts = [await asked.claim_deliveries(TO_BROKER, 4, NOW) for _ in range(4)]
    assert [len(part) for part in parts] == [4, 4, 1, 0]
    assert len({one.delivery_id for part in parts for one in part}) == 9


async def test_nobody_waits_so_anybody_may_have_it(adapter: Adapter, store: SqlStore):
    await refused(store, 1)
    await store.claim_deliveries([Channel.CALLBACK], 9, NOW)
    await refused(store, 2)
    await store.claim_deliveries(TO_BROKER, 0, NOW)
    await refused(store, 3, at=NOW + REQUESTED_WITHIN)
    other = await adapter.twin(store, "other")
    assert len(await other.claim_deliveries(TO_BROKER, 9, NOW + REQUESTED_WITHIN)) == 3


async def test_what_others_left_is_not_forgotten_for_it(asked: SqlStore):
    await asked.file([a_delivery(1, Channel.QUEUE)])
    await refused(asked)
    assert len(await asked.claim_deliveries(TO_BROKER, 9, NOW)) == 1
    await refused(asked, 2)
    assert len(await asked.claim_deliveries(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL)) == 2


async def test_a_backlog_is_worked_off_at_full_pace_beside_it(asked: SqlStore):
    await asked.file([a_delivery(number, Channel.QUEUE) for number in range(20)])
    assert len(await asked.claim_deliveries(TO_BROKER, 5, NOW)) == 5
    await refused(asked)
    assert len(await asked.claim_deliveries(TO_BROKER, 5, NOW)) == 5
    await refused(asked, 2)
    assert len(await asked.claim_deliveries(TO_BROKER, 5, NOW)) == 5


async def test_what_others_left_has_its_turn_however_much_there_is_of_our_own(asked: SqlStore):
    await asked.file([a_delivery(1, Channel.QUEUE)])
    for number in range(9):
        await refused(asked, number)
    later = NOW + ASK_STORE_INTERVAL
    taken = [one.destination.channel for one in await asked.claim_deliveries(TO_BROKER, 5, later)]
    assert (len(taken), taken.count(Channel.QUEUE)) == (5, 1)


async def test_a_single_place_is_for_both_by_turns(asked: SqlStore):
    await asked.file([a_delivery(number, Channel.QUEUE) for number in range(9)])
    assert len(await asked.claim_deliveries(TO_BROKER, 1, NOW)) == 1
    for number in range(9):
        await refused(asked, number)
    taken = [one.destination.channel for _ in range(4) for one in await asked.claim_deliveries(TO_BROKER, 1, NOW)]
    assert (len(taken), taken.count(Channel.QUEUE)) == (4, 2)


async def test_what_is_taken_survives_a_store_that_cannot_be_asked_for_more(asked: SqlStore, line: Line):
    await refused(asked)
    await asked.file([a_delivery(2, Channel.QUEUE)])
    later = NOW + ASK_STORE_INTERVAL
    line.lose()
    assert [one.destination.channel for one in await asked.claim_deliveries(TO_BROKER, 9, later)] == [Channel.EXCHANGE]
    assert [one.destination.channel for one in await asked.claim_deliveries(TO_BROKER, 9, later)] == [Channel.QUEUE]


async def test_a_lost_confirmation_leaves_it_to_its_writer(
    asked: SqlStore, line: Line, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store_module, "RETRY_EVERY", 0.01)
    run = await started(asked)
    line.lose()
    await asked.apply(end_of(run))
    assert len(await asked.claim_deliveries(TO_BROKER, 9, NOW)) == 1
    assert await asked.claim_deliveries(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL) == []


async def test_a_lost_confirmation_of_an_end_that_was_decided_without_the_inputs(
    asked: SqlStore, line: Line, monkeypatch: pytest.MonkeyPatch
):
    """The run as `core.recent` keeps it is still known for what was written."""
    monkeypatch.setattr(store_module, "RETRY_EVERY", 0.01)
    run = await started(asked)
    recent = RunCache()
    recent.put(run)
    line.lose()
    in_mind = recent.pop(run.run_id)
    assert in_mind is not None
    await asked.apply(end_of(in_mind))
    assert len(await asked.claim_deliveries(TO_BROKER, 9, NOW)) == 1


async def test_what_is_decided_anew_because_it_came_too_late_is_sent_once(asked: SqlStore):
    """It has the same ids: nobody may free by them what is being sent."""
    run = await started(asked)
    newer = await asked.apply(Decision(run))
    with pytest.raises(Stale):
        await asked.apply(end_of(run))
    await asked.apply(end_of(newer))
    assert len(await asked.claim_deliveries(TO_BROKER, 1, NOW)) == 1
    assert await asked.claim_deliveries(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL) == []


async def test_nor_is_it_freed_for_a_first_try_that_was_lost(
    asked: SqlStore, line: Line, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store_module, "RETRY_EVERY", 0.3)
    run = await started(asked)
    line.lose(written=False)
    writing = asyncio.create_task(asked.apply(end_of(run)))
    await asyncio.sleep(0)
    await asked.heartbeat(NOW)  # after the first try, and before the second
    newer = await asked.apply(Decision(run))
    with pytest.raises(Stale):
        await writing
    await asked.apply(end_of(newer))
    assert len(await asked.claim_deliveries(TO_BROKER, 1, NOW)) == 1
    assert await asked.claim_deliveries(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL) == []


async def test_a_writer_who_is_cancelled_leaves_it_to_others(asked: SqlStore):
    """The write stands, and nobody here has it in hand."""
    run = await started(asked)
    writing = asyncio.create_task(asked.apply(end_of(run)))
    await asyncio.sleep(0)  # it is handed in
    writing.cancel()
    await asyncio.wait([writing])
    await asked.heartbeat(NOW)
    stored = await asked.load(run.run_id)
    assert stored is not None
    assert stored.final
    assert len(await asked.claim_deliveries(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL)) == 1


async def test_a_writer_who_does_not_wait_for_the_store_leaves_it_to_others(asked: SqlStore, line: Line):
    """The write stands, although he was told that it might not."""
    run = await started(asked)
    line.lose()
    with pytest.raises(StoreUnavailable):
        await asked.apply(end_of(run), retry=False)
    stored = await asked.load(run.run_id)
    assert stored is not None
    assert stored.final
    assert len(await asked.claim_deliveries(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL)) == 1


async def test_a_writer_who_comes_too_late_after_all_leaves_it_to_others(
    asked: SqlStore, line: Line, monkeypatch: pytest.MonkeyPatch
):
    """Its first try was written, but not confirmed, and somebody has written since."""
    monkeypatch.setattr(store_module, "RETRY_EVERY", 0.3)
    run = await started(asked)
    line.lose()
    question = cloudevents.with_event(run, cloudevents.WAITING_FOR_HUMAN, POLICY, NOW)
    writing = asyncio.create_task(asked.apply(question))
    await asyncio.sleep(0)
    await asked.heartbeat(NOW)  # after the first try, and before the second
    written = await asked.load(run.run_id)
    assert written is not None
    await asked.apply(Decision(written))
    with pytest.raises(Stale):
        await writing
    assert len(await asked.claim_deliveries(TO_BROKER, 9, NOW + ASK_STORE_INTERVAL)) == 1


async def test_a_process_that_was_given_up_owns_nothing_that_it_writes(adapter: Adapter, asked: SqlStore):
    """Nobody would ever free it again."""
    run = await in_doubt(asked)
    for one in await asked.claim_deliveries(TO_BROKER, 9, NOW):
        await asked.record_outcome(outcome_of_attempt(one, Confirmed(), NOW))
    other = await adapter.twin(asked, "other")
    silence(adapter, "me", 20)
    await other.expire_processes(NOW, 9)
    [freed] = (await other.find_runs(RunFilter())).items
    assert freed.run_id == run.run_id
    await asked.apply(cloudevents.with_event(freed, cloudevents.IN_DOUBT, POLICY, NOW, sequence=2))
    assert len(await other.claim_deliveries(TO_BROKER, 9, NOW)) == 1


async def test_nor_does_it_beside_a_write_of_its_next_life(adapter: Adapter, asked: SqlStore):
    """Both are in one batch: what was decided before it was given up, and what it decides under its new name."""
    old, new = await accepted(asked, 1), await accepted(asked, 2)
    before = run_queries.WriteRequest(
        state_machine.on_cancelled(old, POLICY, NOW), "me", frozenset({f"{old.run_id}-cancelled-1"})
    )
    adapter.execute("DELETE FROM processes")
    await asked.rejoin(NOW)
    after = run_queries.WriteRequest(
        state_machine.on_cancelled(new, POLICY, NOW), "me-2", frozenset({f"{new.run_id}-cancelled-1"})
    )
    async with opened(database(adapter.url).writer()) as writer:
        await writer.run(lambda connection: run_queries.write_decisions(connection, [after, before]))
    assert adapter.execute("SELECT owner FROM deliveries ORDER BY delivery_id") == [(None,), ("me-2",)]


async def test_what_lies_because_the_way_out_closed_is_given_back(adapter: Adapter, asked: SqlStore):
    await refused(asked)
    other = await adapter.twin(asked, "other")
    later = NOW + 2 * REQUESTED_WITHIN + 1
    await asked.heartbeat(later)
    assert len(await other.claim_deliveries(TO_BROKER, 9, later)) == 1
    assert await asked.claim_deliveries(TO_BROKER, 9, later) == []


async def test_what_could_not_be_given_back_is_still_known(asked: SqlStore, line: Line):
    await refused(asked)
    later = NOW + 2 * REQUESTED_WITHIN + 1
    line.lose(2, written=False)  # the first one is the sign of life
    with pytest.raises(StoreUnavailable):
        await asked.heartbeat(later)
    assert len(await asked.claim_deliveries(TO_BROKER, 9, later)) == 1


async def test_no_more_is_kept_than_is_soon_sent(adapter: Adapter, asked: SqlStore):
    for number in range(MOST + 3):
        await refused(asked, number)
    assert adapter.execute("SELECT COUNT(*) FROM deliveries WHERE owner IS NULL") == [(3,)]
    taken = [await asked.claim_deliveries(TO_BROKER, 100, NOW) for _ in range(3)]
    assert sum(map(len, taken)) == MOST + 3


async def test_closing_gives_back_what_was_not_sent(adapter: Adapter):
    async with adapter.open() as store:
        await store.claim_deliveries(TO_BROKER, 9, NOW)
        await refused(store)
    async with adapter.open("other") as store:
        assert len(await store.claim_deliveries(TO_BROKER, 9, NOW)) == 1
