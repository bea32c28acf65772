"""Held runs are not started until they are released, whatever happens to the process."""

from bridge.adapters.store import SqlStore
from bridge.core.runs import history
from bridge.core.runs.commands import Cancel, apply_command
from bridge.core.runs.model import Run, State
from tests.contract.conftest import Adapter
from tests.contract.run_states import POLICY, accepted, started
from tests.fakes import NOW, applied


async def claimed(store: SqlStore) -> list[str]:
    return [run.run_id for run in await store.claim_accepted("research", 10, 10, NOW + 10)]


async def stored(store: SqlStore, run: Run) -> Run:
    found = await store.load(run.run_id)
    assert found is not None
    return found


async def test_accepted_runs_are_held_and_later_ones_are_not(store: SqlStore):
    begun, waiting = await started(store), await accepted(store, 2)
    assert await store.queries.hold_accepted(NOW + 5) == 1
    assert await store.queries.hold_accepted(NOW + 6) == 0
    later = await accepted(store, 3)
    assert await claimed(store) == [later.run_id]
    held = await stored(store, waiting)
    assert (held.held, (await stored(store, begun)).state) == (True, State.RUNNING)
    assert [(entry["event"], entry["at"]) for entry in history.decoded(held.history)] == [
        ("accepted", NOW),
        ("held", NOW + 5),
    ]


async def test_a_released_run_is_started(store: SqlStore):
    first, second = await accepted(store, 1), await accepted(store, 2)
    await store.queries.hold_accepted(NOW)
    assert await store.queries.release(first.run_id, None, "client/ops", NOW + 1) == 1
    assert await store.queries.release(first.run_id, None, "client/ops", NOW + 1) == 0
    assert await claimed(store) == [first.run_id]
    assert await store.queries.release(None, {"triage"}, "client/ops", NOW + 2) == 0
    assert await store.queries.release(None, {"research"}, "client/ops", NOW + 2) == 1
    [entry] = history.decoded((await stored(store, second)).history)[2:]
    assert entry == {"at": NOW + 2, "event": "command", "command": "release", "by": "client/ops"}
    assert await claimed(store) == [second.run_id]


async def test_a_held_run_can_be_cancelled(store: SqlStore):
    run = await accepted(store)
    await store.queries.hold_accepted(NOW)
    decision = apply_command(await stored(store, run), Cancel(), POLICY, NOW + 1)
    assert decision is not None
    assert (await applied(store, decision)).state is State.CANCELLED
    assert await store.queries.release(None, None, "client/ops", NOW + 2) == 0


async def test_a_run_without_a_history_can_be_held(adapter: Adapter, store: SqlStore):
    run = await accepted(store)
    adapter.execute("UPDATE runs SET history = NULL WHERE run_id = %s", run.run_id)
    await store.queries.hold_accepted(NOW)
    held = await stored(store, run)
    assert (held.held, [entry["event"] for entry in history.decoded(held.history)]) == (True, ["held"])
