"""Searches for runs: by key, execution, correlation id, members of meta, time, and the beginning of an id."""

from bridge.adapters.store import SqlStore
from bridge.core.runs.model import Envelope, State
from bridge.ports.queries import RunFilter
from tests.contract.run_states import accepted, started
from tests.fakes import NOW, a_run, run_id


async def found(store: SqlStore, which: RunFilter) -> list[str]:
    return [run.run_id for run in (await store.queries.find_runs(which)).items]


async def test_every_search_applies(store: SqlStore) -> None:
    running = await started(store, 3)
    await accepted(store, 1, idempotency_key="k-1", meta={"order": 42, "tier": "gold", "paid": True, "none": None})
    await accepted(store, 2, envelope=Envelope("queue", correlation_id="k-1"), meta={"order": "42", "tier": "iron"})
    rows = [
        (RunFilter(idempotency_key="k-1"), [1]),
        (RunFilter(correlation_id="k-1"), [2, 1]),
        (RunFilter(correlation_id="k-1", idempotency_key="k-1"), [1]),
        (RunFilter(correlation_id="k-1", before=run_id(2)), [1]),
        (RunFilter(kickoff_id=running.kickoff_id), [3]),
        (RunFilter(kickoff_id=running.kickoff_id, crew="triage"), []),
        (RunFilter(meta={"order": "42"}), [2, 1]),
        (RunFilter(meta={"order": "42"}, limit=1), [2]),
        (RunFilter(meta={"order": "42"}, source="shop"), []),
        (RunFilter(meta={"order": "42", "tier": "gold"}), [1]),
        (RunFilter(meta={"paid": "true"}, state=State.ACCEPTED, crew="research"), [1]),
        (RunFilter(meta={"none": "null"}), []),
        (RunFilter(error="lost"), []),
        (RunFilter(prefix=run_id(2)[:9]), [2]),
        (RunFilter(prefix="0"), [3, 2, 1]),
        (RunFilter(prefix="f"), []),
    ]
    for which, numbers in rows:
        assert await found(store, which) == [run_id(number) for number in numbers], which


async def test_times_select_ids(store: SqlStore) -> None:
    """The ids of runs 1 to 3 were created 65.536 s after each other."""
    for number in (1, 2, 3):
        await accepted(store, number)
    rows = [
        (RunFilter(since=131.072), [3, 2]),
        (RunFilter(since=131.073), [3]),
        (RunFilter(until=131.072), [1]),
        (RunFilter(since=65.536, until=131.073, crew="research"), [2, 1]),
        (RunFilter(since=-5.0, until=NOW * 100), [3, 2, 1]),
    ]
    for which, numbers in rows:
        assert await found(store, which) == [run_id(number) for number in numbers], which


async def test_meta_is_searchable_within_limits(store: SqlStore) -> None:
    meta = {"nested": {"a": 1}, "list": [1], "long": "x" * 256, "lines": "a\nb"} | {f"n{i}": i for i in range(21)}
    await accepted(store, 1, meta=meta)
    for name, value, count in [("n19", "19", 1), ("n20", "20", 0), ("long", "x" * 256, 0), ("lines", "a\nb", 0)]:
        assert len(await found(store, RunFilter(meta={name: value}))) == count, name


async def test_a_retry_keeps_the_id_of_the_old_run(store: SqlStore) -> None:
    run = await accepted(store, 2, retry_of=run_id(1))
    assert (await store.load(run.run_id) or run).request.retry_of == run_id(1)


async def test_a_replay_adds_nothing_to_the_search(store: SqlStore) -> None:
    for number in (1, 2):
        await store.accept(a_run(number, idempotency_key="k", meta={"order": 42}))
    assert await found(store, RunFilter(meta={"order": "42"})) == [run_id(1)]
