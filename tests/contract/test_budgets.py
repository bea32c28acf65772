"""Contract of budgets: how many runs a store lets start, and how it finds them, on every database."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Engine, event

from bridge.adapters.store import SqlStore
from bridge.core.crew.responses import InDoubt, NotStarted, Refused, Started
from bridge.core.runs import late_results, state_machine
from bridge.core.runs.budget import Budget, Budgets, SpentBudget
from bridge.core.runs.model import Envelope, State
from bridge.ports.queries import Usage
from tests.contract.conftest import Adapter, readers
from tests.contract.run_states import POLICY, accepted, ids
from tests.fakes import NOW, applied, run_id

DAY = 86_400.0
OF_CREW = Budgets(Budget(2, DAY))
ORDERS, REPORTS = Envelope("client/orders"), Envelope("client/reports")
OF_ORDERS = Budgets(senders={"client/orders": Budget(2, DAY)})


async def begun(store: SqlStore, limits: Budgets, now: float = NOW, limit: int = 9) -> list[str]:
    """The runs that start now."""
    return ids(await store.claim_accepted("research", limit, 99, now, limits))


async def respond(store: SqlStore, number: int, response: Any, now: float = NOW) -> None:
    """The POST of a run has its response."""
    run = await store.load(run_id(number))
    assert run is not None
    await applied(store, state_machine.on_kickoff(run, response, POLICY, now))


async def test_no_more_runs_start_than_the_budget_of_the_crew_permits(store: SqlStore):
    for number in range(1, 6):
        await accepted(store, number)
    assert await begun(store, OF_CREW) == [run_id(1), run_id(2)]
    assert await begun(store, OF_CREW, NOW + DAY - 1) == []
    assert await begun(store, OF_CREW, NOW + DAY) == [run_id(3), run_id(4)]
    assert await begun(store, OF_CREW, NOW + 2 * DAY - 1) == []


async def test_a_spent_budget_permits_a_start_once_enough_starts_no_longer_count(store: SqlStore):
    for number in range(1, 5):
        await accepted(store, number, envelope=ORDERS)
    assert (await store.queries.usage({"research": OF_CREW.crew}, OF_ORDERS.senders, NOW)).slots_held == {"research": 0}
    for number in range(3):
        await begun(store, Budgets(), NOW + number, limit=1)
    usage = await store.queries.usage({"research": OF_CREW.crew, "triage": None}, OF_ORDERS.senders, NOW + 9)
    spent = SpentBudget(2, DAY, NOW + 1 + DAY)
    assert usage == Usage({"research": 3, "triage": 0}, {"research": spent}, {"client/orders": spent})
    assert await begun(store, OF_CREW, spent.until - 0.5) == []
    assert (await store.queries.usage({"research": OF_CREW.crew}, {}, spent.until)).crew_budgets == {}
    assert await begun(store, OF_CREW, spent.until) == [run_id(4)]


async def test_claimed_runs_count_before_their_post(store: SqlStore):
    for number in (1, 2, 3):
        await accepted(store, number)
    assert len(await store.claim_accepted("research", 1, 99, NOW, OF_CREW)) == 1
    assert len(await store.claim_accepted("research", 9, 99, NOW, OF_CREW)) == 1
    assert await store.claim_accepted("research", 9, 99, NOW, OF_CREW) == []


async def test_ended_runs_count_and_runs_that_never_started_do_not(store: SqlStore):
    for number in range(1, 7):
        await accepted(store, number)
    for number, response in ((1, Started("k-1")), (2, Refused("no")), (3, NotStarted("429", 2 * DAY))):
        assert await begun(store, OF_CREW, limit=1) == [run_id(number)]
        await respond(store, number, response)
    assert await begun(store, OF_CREW, limit=1) == [run_id(4)]
    await respond(store, 4, InDoubt("reset"))
    assert await begun(store, OF_CREW) == []  # the execution may have started and may have to be paid for


async def test_the_budget_of_a_client_applies_across_crews_and_limits_no_other_client(store: SqlStore):
    for number in (1, 2, 3):
        await accepted(store, number, envelope=ORDERS, priority=9, crew="research" if number < 3 else "triage")
    await accepted(store, 4, envelope=ORDERS, priority=9)
    await accepted(store, 5, envelope=REPORTS)
    await accepted(store, 6)
    assert len(await store.claim_accepted("triage", 9, 99, NOW, OF_ORDERS)) == 1
    assert await begun(store, OF_ORDERS) == [run_id(1), run_id(5), run_id(6)]
    assert await begun(store, OF_ORDERS, NOW + DAY - 1) == []
    assert await begun(store, OF_ORDERS, NOW + DAY) == [run_id(2), run_id(4)]


async def test_a_budget_applies_to_concurrent_processes(adapter: Adapter, store: SqlStore):
    """Each process counts before it claims; two that count at the same time must not both see the last start."""
    for number in range(1, 41):
        await accepted(store, number, envelope=ORDERS, crew="research" if number % 2 else "triage")
    stores = [store, *[await adapter.twin(store, f"other-{number}") for number in range(3)]]
    limits = replace(OF_ORDERS, senders={"client/orders": Budget(10, DAY)})

    async def claim(one: SqlStore, crew: str) -> int:
        return len(await one.claim_accepted(crew, 3, 99, NOW, limits))

    taken = await asyncio.gather(*(claim(one, crew) for one in stores * 3 for crew in ("research", "triage")))
    assert sum(taken) == 10


async def test_the_backlog_of_one_sender_does_not_delay_others(store: SqlStore):
    """However many of its runs wait before the others', and whatever is left of its budget."""
    for number in range(1, 9):
        await accepted(store, number, envelope=ORDERS)
    await accepted(store, 9, envelope=REPORTS)
    assert await begun(store, OF_ORDERS, limit=4) == [run_id(1), run_id(2), run_id(9)]


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """The statements executed meanwhile."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_waiting_runs_slots_and_starts_are_found_by_their_indexes(adapter: Adapter, store: SqlStore):
    """Without indexes each claim reads every stored run, and 100,000 waiting runs stop the bridge."""
    limits = Budgets(Budget(5, DAY), {"client/orders": Budget(1, DAY)})
    await accepted(store, 1, envelope=ORDERS)
    await begun(store, limits)
    await accepted(store, 2, envelope=ORDERS)
    with statements() as seen:
        await store.claim_accepted("research", 9, 98, NOW, limits)
    of_runs = [(sql, parameters) for sql, parameters in seen if "FROM runs" in sql]
    plans = [await _plan(adapter, sql, parameters) for sql, parameters in of_runs]
    wanted = [{"runs_open"}, {"runs_crew_budget"}, {"runs_client_budget"}, {"runs_kickoff_queue"}]
    used = [set(re.findall(r"runs_\w+", plan)) for plan in plans]
    if store.shared:  # PostgreSQL chooses indexes by the content of the table, which is almost empty here
        assert [plan for plan in plans if "Seq Scan" in plan] == []
    else:
        assert used == wanted
        assert [plan for plan in plans if "SCAN runs" in plan or "TEMP B-TREE" in plan] == []


async def test_due_runs_of_one_crew_are_found_by_an_index(adapter: Adapter, store: SqlStore):
    """The workers of each crew ask every few seconds, and most stored runs have ended."""
    with statements() as seen:
        await store.claim({State.WAITING_FOR_HUMAN}, {"research"}, 9, NOW)
        await store.claim(late_results.MAY_STILL_END, {"research"}, 9, NOW)
    plans = [await _plan(adapter, sql, parameters) for sql, parameters in seen if "FROM runs" in sql]
    assert len(plans) == 2
    if store.shared:
        assert [plan for plan in plans if "Seq Scan" in plan] == []
    else:
        assert [set(re.findall(r"runs_\w+", plan)) for plan in plans] == [{"runs_open"}, {"runs_due"}]


async def test_running_runs_are_counted_only_where_necessary(store: SqlStore):
    """Counting 100,000 takes 10 ms per claim; a single process knows a lower bound of the free slots."""
    for number in range(1, 13):
        await accepted(store, number)
    counted = list[bool]()
    for _ in range(6):
        with statements() as seen:
            assert len(await store.claim_accepted("research", 2, 11, NOW)) == (2 if len(counted) < 5 else 1)
        counted.append(any("runs.state IN" in sql for sql, _ in seen))
    assert counted == ([True] * 6 if store.shared else [True, False, False, False, False, True])


async def _plan(adapter: Adapter, sql: str, parameters: Any) -> str:
    def explain(connection: Connection) -> str:
        if connection.dialect.name == "sqlite":
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", parameters)
        else:  # PostgreSQL scans such a small table sequentially, unless that is made expensive
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            plan = connection.exec_driver_sql(f"EXPLAIN {sql}", parameters)
        return "\n".join(str(tuple(row)) for row in plan)

    async with readers(adapter) as reader:
        return await reader.run(explain)
