"""Contract of `start_by`: which runs have expired, and that none of them is started, on every database."""

from dataclasses import replace

from bridge.adapters.store import SqlStore
from bridge.core.runs.model import Deferral, Run, State
from bridge.core.runs.state_machine import on_start_by_passed
from tests.contract.run_states import POLICY, ids
from tests.fakes import NOW, a_run, applied, run_id

LATER = NOW + 60.0


async def accepted(store: SqlStore, number: int, start_by: float | None, crew: str = "research") -> Run:
    return (await store.accept(a_run(number, crew=crew, start_by=start_by))).run


async def test_expired_runs_are_found_and_not_started(store: SqlStore):
    for number, start_by in ((1, 60.0), (2, 30.0), (3, 90.0), (4, None)):
        await accepted(store, number, start_by)
    await accepted(store, 5, 30.0, "triage")
    assert ids(await store.find_expired(["research"], 9, NOW + 29.0)) == []
    assert ids(await store.find_expired(["research"], 9, LATER)) == [run_id(2), run_id(1)]
    assert ids(await store.find_expired(["research"], 1, LATER)) == [run_id(2)]
    assert set(ids(await store.find_expired(["research", "triage"], 9, LATER))) == {run_id(1), run_id(2), run_id(5)}
    assert ids(await store.claim_accepted("research", 9, 9, LATER)) == [run_id(3), run_id(4)]


async def test_an_expired_run_is_found_once_and_ends(store: SqlStore):
    await accepted(store, 1, 30.0)
    [found] = await store.find_expired(["research"], 9, LATER)
    decision = on_start_by_passed(found, POLICY, LATER)
    assert decision is not None
    ended = await applied(store, decision)
    assert (ended.state, await store.load(run_id(1)) is None) == (State.FAILED, False)
    assert await store.find_expired(["research"], 9, LATER) == []


async def test_a_run_in_progress_or_deferred_by_an_error_is_not_found(store: SqlStore):
    await accepted(store, 1, 30.0)
    assert ids(await store.claim_accepted("research", 9, 9, NOW)) == [run_id(1)]
    deferral = Deferral("internal error", NOW, LATER + 5.0)
    run = a_run(2, start_by=30.0)
    await store.accept(replace(run, due_at=LATER + 5.0, deferral=deferral))
    assert await store.find_expired(["research"], 9, LATER) == []
    assert ids(await store.find_expired(["research"], 9, LATER + 5.0)) == [run_id(2)]


async def test_the_time_survives_the_store(store: SqlStore):
    stored = await accepted(store, 1, 30.0)
    loaded = await store.load(stored.run_id)
    assert loaded is not None
    assert (loaded.request.start_by, loaded.expires_at) == (30.0, NOW + 30.0)
