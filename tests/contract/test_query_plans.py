"""Query plans of the store: no list, claim, count, or event query reads a whole table.

Statements are recorded on their way to the driver, so the test judges the real statements, not copies.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Engine, event

from bench.search import fill
from bridge.adapters.store import SqlStore
from bridge.adapters.store.database import database, open_connections
from bridge.core.delivery.model import Channel, DeliveryState
from bridge.core.delivery.outcome import Retryable, outcome_of_attempt
from bridge.core.delivery.receivers import ConcurrencyLimits
from bridge.core.runs.budget import Budget, Budgets
from bridge.core.runs.model import Envelope, State
from bridge.ports.queries import DeliveryFilter, RunFilter
from tests.contract.conftest import Adapter
from tests.fakes import NOW, a_delivery, a_run, run_id

CREWS = (None, frozenset({"research"}), frozenset({"research", "triage"}))
GROWING = {"runs", "events", "deliveries", "delivery_attempts", "run_times", "run_meta"}
SHORT = {"deliveries_due", "deliveries_claimed", "deliveries_undelivered", "runs_kickoff_queue", "runs_open"}
"""Indexes of unfinished rows."""
RUN_FILTERS = [
    RunFilter(state, crew, crews, source, before)
    for state, crew, crews, source, before in product(
        (None, State.FAILED), (None, "research"), CREWS, (None, "client/shop"), (None, run_id(5))
    )
]
SEARCHES: list[dict[str, Any]] = [
    {"idempotency_key": "k"},
    {"kickoff_id": "e"},
    {"correlation_id": "c"},
    {"meta": {"order": "42"}},
    {"meta": {"order": "42", "tier": "gold"}},
    {"error": "lost"},
    {"since": NOW, "until": NOW + 1},
    {"prefix": "0000"},
    {"idempotency_key": "k", "kickoff_id": "e", "correlation_id": "c", "meta": {"order": "42"}, "error": "lost"},
]
RUN_FILTERS += [
    RunFilter(state, None, crews, source, before, **search)
    for state, crews, source, before, search in product(
        (None, State.FAILED), CREWS, (None, "client/shop"), (None, run_id(5)), SEARCHES
    )
]
DELIVERY_FILTERS = [
    DeliveryFilter(None, state, crew, crews, run, since, None if since is None else NOW + 1, before)
    for state, crew, crews, run, since, before in product(
        (None, DeliveryState.DEAD), (None, "research"), CREWS, (None, run_id(1)), (None, NOW), (None, "event-0003-1")
    )
]


@dataclass
class Plans:
    """Every executed statement with its plan."""

    adapter: Adapter
    statements: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def caught(self) -> Iterator[None]:
        def catch(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
            if re.match(r"\s*(SELECT|UPDATE|DELETE|WITH)\b", statement):
                self.statements.setdefault(statement, parameters[0] if isinstance(parameters, list) else parameters)

        event.listen(Engine, "before_cursor_execute", catch)
        try:
            yield
        finally:
            event.remove(Engine, "before_cursor_execute", catch)

    def scans(self) -> list[str]:
        """The steps that read all of a table that grows, each with its statement."""
        return [
            f"{step} <- {statement}"
            for statement, parameters in self.statements.items()
            for step in self.adapter.plan(statement, parameters)
            if _is_scan(step, statement)
        ]


def _is_scan(step: str, statement: str) -> bool:
    """Whether a step reads every row of a table that grows.

    Without a condition, an index may be read in its order until the page is full or all rows are counted.
    """
    found = re.match(r"SCAN (\w+)(?: USING (COVERING )?INDEX (\w+))?", step)
    if found is None or found[1] not in GROWING or found[3] in SHORT:
        return False
    return found[2] is None or " WHERE " in statement


@pytest.fixture(params=["sqlite", "postgresql"])
def adapter(request: pytest.FixtureRequest) -> Adapter:
    """With a new database: plans depend on what its files contained."""
    made: Adapter = request.getfixturevalue(request.param)
    return made


@pytest.fixture
async def plans(adapter: Adapter, store: SqlStore) -> Plans:
    """A store with a few rows of every kind; PostgreSQL considers no table small enough to scan."""
    for number in range(1, 4):
        await store.accept(a_run(number, envelope=Envelope("client/shop")))
    await store.deliveries.add([a_delivery(1)])
    return Plans(adapter)


async def test_lists_of_runs_use_indexes(plans: Plans, store: SqlStore) -> None:
    with plans.caught():
        for which in RUN_FILTERS:
            await store.queries.find_runs(which)
    assert plans.statements
    assert plans.scans() == []


@pytest.mark.parametrize(
    ("search", "index"),
    [
        ({"idempotency_key": "k"}, "runs_idempotency_key"),
        ({"kickoff_id": "e"}, "runs_kickoff_id"),
        ({"correlation_id": "c"}, "runs_correlation_id"),
        ({"meta": {"order": "42"}}, "run_meta_value"),
        ({"error": "lost"}, "runs_error"),
    ],
)
@pytest.mark.parametrize("before", [None, run_id(5)])
async def test_a_search_reads_its_own_index_whatever_else_is_asked(
    plans: Plans, store: SqlStore, search: dict[str, Any], index: str, before: str | None
) -> None:
    with plans.caught():
        await store.queries.find_runs(
            RunFilter(State.FAILED, "research", source="client/shop", before=before, **search)
        )
    steps = [step for query, values in plans.statements.items() for step in plans.adapter.plan(query, values)]
    assert any(index in step for step in steps), steps
    assert not any("runs_by_" in step for step in steps), steps


async def test_a_list_reads_only_the_index_of_its_crew_although_its_state_is_frequent(
    plans: Plans, store: SqlStore
) -> None:
    """PostgreSQL would read the primary key, expecting to meet enough runs soon, and find none of them."""
    async with open_connections(database(plans.adapter.url).writer()) as writer:
        await writer.run(partial(fill, runs=5000))
    with plans.caught():
        found = await store.queries.find_runs(RunFilter(State.SUCCEEDED, "crew-10"))  # whose runs have all failed
    lists = {query: values for query, values in plans.statements.items() if " LIMIT " in query}
    steps = [step for query, values in lists.items() for step in plans.adapter.plan(query, values)]
    assert not found.items
    assert any("runs_by_crew" in step for step in steps)
    assert [step for step in steps if "runs_pkey" in step or "autoindex" in step] == []


async def test_a_second_member_of_meta_is_looked_up_by_its_run(plans: Plans, store: SqlStore) -> None:
    """A prepared plan of PostgreSQL would begin with all runs that have it, which may be half of them."""
    with plans.caught():
        await store.queries.find_runs(RunFilter(meta={"order": "42", "tier": "gold"}))
    [(query, values)] = [item for item in plans.statements.items() if "EXISTS" in item[0]]
    steps = [step for step in plans.adapter.plan(query, values) if "run_meta" in step]
    assert len([step for step in steps if "run_meta_value" in step]) == 1, steps


async def test_lists_of_deliveries_use_indexes(plans: Plans, store: SqlStore) -> None:
    with plans.caught():
        for which in [*DELIVERY_FILTERS, DeliveryFilter("event-0001-1", crews=frozenset({"research"}))]:
            await store.queries.find_deliveries(which)
        await store.queries.deliveries_for_run(run_id(1))
        await store.queries.attempts_for_delivery("event-0001-1")
    assert plans.scans() == []


async def test_redelivery_reads_only_the_selected_deliveries(plans: Plans, store: SqlStore) -> None:
    with plans.caught():
        for crews, since, receiver in product(CREWS, (None, NOW), (None, "https://shop.example:443")):
            which = DeliveryFilter(state=DeliveryState.DEAD, crews=crews, since=since, receiver=receiver)
            await store.queries.count_redeliverable(which)
            await store.queries.redeliver(which, NOW)
    assert plans.scans() == []


async def test_receivers_of_a_crew_are_found_by_an_index(plans: Plans, store: SqlStore) -> None:
    with plans.caught():
        for crews in CREWS:
            await store.queries.failing_receivers(crews)
            await store.queries.resume_receivers(None, crews)
    assert plans.scans() == []


async def test_event_queries_use_indexes(plans: Plans, store: SqlStore) -> None:
    with plans.caught():
        await store.queries.stored_at()
        await store.queries.stored_at("event-0001")
        await store.queries.find_events(NOW, 10)
        await store.queries.load_events(["event-0001"])
    assert plans.scans() == []


async def test_replays_are_found_by_their_index(plans: Plans, store: SqlStore) -> None:
    signed = [Envelope("hook/github", signature_digest=character * 64) for character in "ab"]
    for number in (4, 6):
        with plans.caught():
            await asyncio.gather(
                store.accept(a_run(number, idempotency_key="k")),
                store.accept(a_run(number + 1, idempotency_key="l")),
                *(store.accept(a_run(number + 6 + n, envelope=envelope)) for n, envelope in enumerate(signed)),
            )
    assert plans.statements
    assert plans.scans() == []


async def test_no_step_of_the_bridge_reads_all_runs_or_deliveries(plans: Plans, store: SqlStore) -> None:
    limits = Budgets(Budget(5, 60.0), {"client/shop": Budget(5, 60.0)})
    with plans.caught():
        await store.claim_accepted("research", 2, 9, NOW, limits)
        await store.claim({State.RUNNING, State.STARTING}, {"research"}, 9)
        await store.claim({State.IN_DOUBT}, {"research"}, 9, NOW)
        await store.claim({State.TIMED_OUT, State.CANCELLED}, "research", 9, NOW)
        await store.find_key("client/shop", "research", "k")
        await store.find_execution("research", "e")
        await store.load(run_id(1))
        await store.deliveries.claim_callbacks(9, ConcurrencyLimits(9), NOW)
        for delivery in await store.deliveries.claim(list(Channel), 9, NOW):
            await store.deliveries.record_outcome(outcome_of_attempt(delivery, Retryable("HTTP 500"), NOW))
        await store.cluster.heartbeat(NOW)
        await store.cluster.expire_processes(NOW + 999, 9)
        await store.cluster.membership()
        await store.inbox.due(9, NOW, ())
        await store.run_times.add("research", [], NOW, 9)
        await store.run_times.newest("research", NOW, 9)
        await store.cluster.delete_ended_runs(NOW, 9)
        await store.queries.usage({"research": limits.crew, "triage": None}, limits.senders, NOW)
        await store.queries.crews_served()
        await store.queries.figures({"research": Budget(5, 60.0)}, NOW)
        await store.queries.run_ends([NOW])
        await store.find_expired(["research", "triage"], 9, NOW)
        await store.health()
    assert plans.scans() == []
