"""A row that cannot be decoded costs only itself: claims, lists, and batched reads skip and report it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import update
from structlog.testing import capture_logs

from bridge.adapters.store import SqlStore
from bridge.adapters.store.database import database, open_connections
from bridge.adapters.store.decoding import MAX_REMEMBERED, POSTPONED_FOR, UndecodableReports, UndecodableRow
from bridge.adapters.store.queries import events as event_queries
from bridge.adapters.store.schema import deliveries, events, run_times, runs
from bridge.core.delivery.model import Channel, DeliveryState
from bridge.core.runs.model import RunTime, State
from bridge.core.runs.quarantine import Quarantined
from bridge.observability.metrics import Counters
from bridge.ports.queries import DeliveryFilter, RunFilter
from tests.contract.conftest import Adapter
from tests.contract.run_states import accepted, ids
from tests.fakes import NOW, Faults, a_delivery, run_id


async def spoil(adapter: Adapter, table: Any, column: str, id_column: str, id_: str, value: Any = b"{") -> None:
    corrupted = update(table).where(table.c[id_column] == id_).values({column: value})
    async with open_connections(database(adapter.url).writer()) as writer:
        await writer.run(lambda connection: connection.execute(corrupted))


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def store(adapter: Adapter, faults: Faults) -> AsyncIterator[SqlStore]:
    async with adapter.open(report=faults) as opened:
        yield opened


async def test_a_waiting_run_is_deferred_and_the_others_start(adapter: Adapter, store: SqlStore, faults: Faults):
    poisoned, good = await accepted(store, 1), await accepted(store, 2)
    await spoil(adapter, runs, "inputs", "run_id", poisoned.run_id)
    assert [run.run_id for run in await store.claim_accepted("research", 9, 9, NOW)] == [good.run_id]
    assert [(kind, about["run_id"]) for kind, _, about in faults.reported] == [(Quarantined.RUN, poisoned.run_id)]
    assert await store.claim_accepted("research", 9, 9, NOW + POSTPONED_FOR - 1) == []
    await spoil(adapter, runs, "inputs", "run_id", poisoned.run_id, b"{}")
    assert [run.run_id for run in await store.claim_accepted("research", 9, 9, NOW + POSTPONED_FOR)] == [
        poisoned.run_id
    ]


async def test_an_expired_run_is_postponed_and_the_others_end(adapter: Adapter, store: SqlStore, faults: Faults):
    """Every search found it again, so that as many as one search returns kept all others from ending."""
    poisoned, good = [await accepted(store, number, start_by=float(number)) for number in (1, 2)]
    await spoil(adapter, runs, "meta", "run_id", poisoned.run_id)
    found = [ids(await store.find_expired(["research"], 1, NOW + 9)) for _ in range(2)]
    assert (found, faults.kinds) == ([[], [good.run_id]], [Quarantined.RUN])
    await spoil(adapter, runs, "meta", "run_id", poisoned.run_id, b"{}")
    later = NOW + 9 + POSTPONED_FOR
    assert ids(await store.find_expired(["research"], 9, later - 1)) == [good.run_id]
    assert ids(await store.find_expired(["research"], 9, later)) == [good.run_id, poisoned.run_id]
    for at in (later - 1, later, later + 1):
        assert await store.claim_accepted("research", 9, 9, at) == []


async def test_runs_are_listed_and_loaded_without_it(adapter: Adapter, store: SqlStore, faults: Faults):
    poisoned, good = await accepted(store, 1), await accepted(store, 2)
    await spoil(adapter, runs, "meta", "run_id", poisoned.run_id)
    assert [run.run_id for run in (await store.queries.find_runs(RunFilter())).items] == [good.run_id]
    assert await store.load(good.run_id) is not None
    assert faults.kinds == [Quarantined.RUN]


async def test_a_page_followed_by_others_is_never_empty(adapter: Adapter, store: SqlStore, faults: Faults):
    good, *poisoned = [await accepted(store, number) for number in (1, 2, 3)]
    for run in poisoned:
        await spoil(adapter, runs, "meta", "run_id", run.run_id)
    page = await store.queries.find_runs(RunFilter(limit=1))
    assert ([run.run_id for run in page.items], page.more) == ([good.run_id], False)
    assert faults.kinds == [Quarantined.RUN] * 2


async def test_reads_of_several_runs_fail_for_that_one(adapter: Adapter, store: SqlStore):
    poisoned, good = await accepted(store, 1), await accepted(store, 2)
    await spoil(adapter, runs, "human_input", "run_id", poisoned.run_id)
    for read in (store.load, store.queries.peek):
        bad, found = await asyncio.gather(read(poisoned.run_id), read(good.run_id), return_exceptions=True)
        assert isinstance(bad, Exception)
        assert getattr(found, "run_id", None) == good.run_id


async def test_a_row_that_is_never_due_is_not_claimed_repeatedly(adapter: Adapter, store: SqlStore, faults: Faults):
    poisoned, good = await accepted(store, 1), await accepted(store, 2)
    for run in (poisoned, good):
        await spoil(adapter, runs, "due_at", "run_id", run.run_id, None)
    await spoil(adapter, runs, "human_input", "run_id", poisoned.run_id)
    assert [run.run_id for run in await store.claim({State.ACCEPTED}, {"research"}, 9)] == [good.run_id]
    assert await store.claim({State.ACCEPTED}, {"research"}, 9) == []
    assert faults.kinds == [Quarantined.RUN]


async def test_a_delivery_is_dead_and_the_others_are_sent(adapter: Adapter, store: SqlStore, faults: Faults):
    await store.deliveries.add([a_delivery(1, Channel.QUEUE), a_delivery(2, Channel.QUEUE)])
    await spoil(adapter, events, "headers", "event_id", "event-0001")
    claimed = await store.deliveries.claim([Channel.QUEUE], 9, NOW)
    assert [delivery.event.event_id for delivery in claimed] == ["event-0002"]
    assert faults.kinds == [Quarantined.DELIVERY]
    await spoil(adapter, events, "headers", "event_id", "event-0001", b"{}")
    [dead] = await store.queries.find_deliveries(DeliveryFilter(state=DeliveryState.DEAD))
    assert (dead.last_error or "").startswith("internal error")


async def test_deliveries_fill_a_page_without_it(adapter: Adapter, store: SqlStore, faults: Faults):
    await store.deliveries.add([a_delivery(number, Channel.QUEUE) for number in (1, 2, 3)])
    await spoil(adapter, deliveries, "channel", "event_id", "event-0002", "pigeon")
    for limit in (2, 9):
        page = await store.queries.find_deliveries(DeliveryFilter(limit=limit))
        assert [one.event.event_id for one in page] == ["event-0003", "event-0001"]
    assert faults.kinds == [Quarantined.DELIVERY] * 2


async def test_a_stream_skips_it(adapter: Adapter, store: SqlStore, faults: Faults):
    large = b"x" * event_queries.BODIES_BYTES
    new = [a_delivery(number, Channel.QUEUE) for number in (1, 2)]
    await store.deliveries.add([replace(one, event=replace(one.event, body=large)) for one in new])
    await spoil(adapter, events, "headers", "event_id", "event-0001")
    [event] = await store.queries.load_events(["event-0001", "event-0002"])
    assert event.event_id == "event-0002"
    assert [about["event_id"] for _, _, about in faults.reported] == ["event-0001"]


async def test_run_times_are_read_without_it(adapter: Adapter, store: SqlStore, faults: Faults):
    new = [RunTime(run_id(number), "research", NOW, 1.0, 2.0) for number in (1, 2)]
    await store.run_times.add("research", new, 0.0, 9)
    await spoil(adapter, run_times, "task_marks", "run_id", run_id(1))
    assert await store.run_times.newest("research", 0.0, 9) == [new[1]]
    assert faults.kinds == [Quarantined.RUN]


async def test_each_row_is_logged_once_and_counted_every_time(adapter: Adapter):
    """Each list wrote one traceback for each such row, so that a page that is reloaded filled the log."""
    counters = Counters(CollectorRegistry())
    async with adapter.open(report=counters.report) as store:
        poisoned, again = [await accepted(store, number) for number in (1, 2)]
        await store.deliveries.add([a_delivery(1, Channel.QUEUE)])
        await spoil(adapter, deliveries, "channel", "event_id", "event-0001", "pigeon")
        await spoil(adapter, runs, "meta", "run_id", poisoned.run_id)
        with capture_logs() as logs:
            for _ in range(3):
                await store.queries.find_runs(RunFilter())
                await store.queries.find_deliveries(DeliveryFilter())
            await spoil(adapter, runs, "meta", "run_id", again.run_id)
            await store.queries.find_runs(RunFilter())
    named = [one.get("run_id") or one["delivery_id"] for one in logs if one["event"] == "item_quarantined"]
    assert sorted(named) == sorted([poisoned.run_id, a_delivery(1, Channel.QUEUE).delivery_id, again.run_id])
    count = partial(counters.registry.get_sample_value, "kickoff_bridge_quarantined_total")
    assert (count({"kind": Quarantined.RUN}), count({"kind": Quarantined.DELIVERY})) == (5, 3)


def test_the_number_of_remembered_rows_is_limited():
    reported: list[tuple[object, bool]] = []

    def report(_: Quarantined, __: BaseException, /, *, repeated: bool = False, **about: object) -> None:
        reported.append((about["run_id"], repeated))

    reports = UndecodableReports(report)
    rows = [UndecodableRow("run_id", run_id(number), ValueError()) for number in range(MAX_REMEMBERED + 1)]
    reports(rows)
    reports([rows[-1], rows[0]])
    assert reported[-2:] == [(rows[-1].id, True), (rows[0].id, False)]
