"""Contract of run times: the statistics are shared by all processes, on every database."""

import math

from bridge.adapters.store import SqlStore
from bridge.core.runs.model import RunTime
from tests.contract.conftest import Adapter


def run_time(number: int, crew: str = "research") -> RunTime:
    return RunTime(f"{crew}-{number}", crew, float(number), 20.5, 30.25, ((1, 8.0), (2, 16.5)))


async def test_run_times_are_read_by_every_process_as_written(adapter: Adapter, store: SqlStore):
    other = await adapter.twin(store, "other")
    await store.run_times.add("research", [run_time(1), run_time(2)], -math.inf, 9)
    await store.run_times.add("writing", [run_time(3, "writing")], -math.inf, 9)
    assert await other.run_times.newest("research", -math.inf, 9) == [run_time(2), run_time(1)]
    assert await other.run_times.newest("research", 1.0, 9) == [run_time(2)]
    assert await other.run_times.newest("research", -math.inf, 1) == [run_time(2)]


async def test_only_the_last_run_times_of_each_crew_are_kept(store: SqlStore):
    await store.run_times.add("writing", [run_time(0, "writing")], -math.inf, 3)
    await store.run_times.add("research", [run_time(number) for number in range(5)], -math.inf, 3)
    await store.run_times.add("research", [run_time(5)], -math.inf, 3)
    assert await store.run_times.newest("research", -math.inf, 9) == [run_time(5), run_time(4), run_time(3)]
    assert await store.run_times.newest("writing", -math.inf, 9) == [run_time(0, "writing")]


async def test_run_times_before_a_change_are_deleted(store: SqlStore):
    await store.run_times.add("research", [run_time(number) for number in range(5)], 3.0, 9)
    assert await store.run_times.newest("research", -math.inf, 9) == [run_time(4), run_time(3)]


async def test_the_same_run_is_stored_once(store: SqlStore):
    await store.run_times.add("research", [run_time(1)], -math.inf, 9)
    await store.run_times.add("research", [run_time(1)], -math.inf, 9)
    await store.run_times.add("research", [], -math.inf, 9)
    assert await store.run_times.newest("research", -math.inf, 9) == [run_time(1)]
