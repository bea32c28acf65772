"""Commands for a run with a POST in flight: stored once, hidden until the response, and a bar to another POST."""

from dataclasses import replace

from bridge.adapters.store import SqlStore
from bridge.core.crew.responses import NotStarted
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import state_machine
from tests.fakes import NOW, a_run, applied


async def test_a_deferred_command_waits_for_the_response_and_holds_the_run(store: SqlStore):
    await store.accept(a_run(1))
    await store.accept(a_run(2))
    first, _ = await store.claim_accepted("research", 2, 9, NOW)

    assert await store.commands.defer(first.run_id, "queue/requests", NOW)
    assert await store.commands.defer(first.run_id, "queue/other", NOW), "it is stored already"
    assert await store.commands.applicable(9) == []

    again = state_machine.on_kickoff(first, NotStarted("503"), CrewPolicy(), NOW)
    await applied(store, replace(again, run=replace(again.run, due_at=NOW)))
    assert await store.commands.applicable(9) == [(first.run_id, "queue/requests")]
    assert await store.claim_accepted("research", 9, 9, NOW) == []

    await store.commands.remove(first.run_id)
    assert await store.commands.applicable(9) == []
    assert [run.run_id for run in await store.claim_accepted("research", 9, 9, NOW)] == [first.run_id]


async def test_no_command_is_stored_for_an_unknown_run(store: SqlStore):
    assert not await store.commands.defer("nobody", "queue/requests", NOW)
