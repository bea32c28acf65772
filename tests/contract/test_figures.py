"""The figures of the store for the gauges: unfinished rows by crew, channel, and state, with the age of the oldest."""

from dataclasses import replace

from bridge.adapters.store import SqlStore
from bridge.core.delivery.model import Channel
from bridge.core.delivery.outcome import Confirmed, Undeliverable, outcome_of_attempt
from bridge.core.runs.budget import Budget
from bridge.ports.queries import Backlog, StoreFigures
from tests.contract.run_states import accepted, refused, started
from tests.fakes import NOW, a_delivery


async def test_an_empty_store_has_no_figures(store: SqlStore):
    assert await store.queries.figures({}, NOW) == StoreFigures({}, {}, {}, {})


async def test_the_slots_that_runs_hold_are_counted(store: SqlStore):
    await started(store, 1)
    await accepted(store, 2)
    await refused(store, 3, at=NOW)
    assert (await store.queries.figures({}, NOW)).slots_held == {"research": 1}


async def test_ended_runs_are_counted_by_minute_crew_and_state(store: SqlStore):
    minute = NOW // 60 * 60
    for number, at in enumerate((minute - 0.5, minute, minute + 59.5, minute + 60.0)):
        await refused(store, number, at=at)
    await accepted(store, 9)
    assert await store.queries.run_ends([minute - 60, minute, minute + 120]) == {
        minute - 60: {("research", "failed"): 1},
        minute: {("research", "failed"): 2},
        minute + 120: {},
    }


async def test_runs_that_have_not_ended_are_counted_by_crew_and_state(store: SqlStore):
    await refused(store, 1, at=NOW)
    await started(store, 2)
    for number in (3, 4, 5):
        await accepted(store, number, now=NOW - 10.0 + number)
    await accepted(store, 6, crew="triage", now=NOW - 60.0)
    assert (await store.queries.figures({}, NOW)).runs == {
        ("research", "running"): Backlog(1, NOW),
        ("research", "accepted"): Backlog(3, NOW - 7.0),
        ("triage", "accepted"): Backlog(1, NOW - 60.0),
    }


async def test_deliveries_that_are_not_confirmed_are_counted_by_channel_and_state(store: SqlStore):
    """The age of a delivery is that of its event, however often the delivery has been attempted."""
    await store.deliveries.add([a_delivery(number, Channel.QUEUE, created_at=NOW - number) for number in (1, 2, 3, 4)])
    first, second, *_ = await store.deliveries.claim([Channel.QUEUE], 2, NOW)
    await store.deliveries.record_outcome(outcome_of_attempt(first, Confirmed(), NOW))
    await store.deliveries.record_outcome(outcome_of_attempt(second, Undeliverable("refused"), NOW))
    await store.deliveries.add([replace(a_delivery(5), due_at=NOW + 99)])
    found = (await store.queries.figures({}, NOW)).deliveries
    assert {key: backlog.number for key, backlog in found.items()} == {
        ("queue", "pending"): 2,
        ("queue", "dead"): 1,
        ("callback", "pending"): 1,
    }
    assert found["queue", "dead"] == Backlog(1, second.event.created_at)
    assert found["callback", "pending"] == Backlog(1, NOW)


async def test_a_budget_is_used_by_the_runs_started_within_its_period(store: SqlStore):
    await started(store, 1)
    await started(store, 2)
    await accepted(store, 3)
    budgets = {"research": Budget(8, 60.0), "triage": Budget(8, 60.0)}
    assert (await store.queries.figures(budgets, NOW + 30)).budgets_used == {"research": 0.25, "triage": 0.0}
    assert (await store.queries.figures(budgets, NOW + 90)).budgets_used == {"research": 0.0, "triage": 0.0}
