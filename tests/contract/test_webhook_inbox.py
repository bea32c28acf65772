"""Contract of the webhook inbox: who can handle an entry, and how long it stays."""

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from bridge.adapters.store import SqlStore
from bridge.adapters.store.queries import inbox
from bridge.core.crew.webhooks import Kind
from bridge.core.runs import state_machine
from bridge.core.runs.model import Decision
from bridge.ports.webhook_inbox import InboxEntry
from tests.contract.conftest import Adapter
from tests.contract.run_states import accepted, claimed, end_of, in_doubt, refused, started
from tests.fakes import NOW, applied

COUNT = "SELECT count(*) FROM webhook_inbox"
QUESTION = InboxEntry("q-1", "research", Kind.HUMAN, {"output": "Approve?"}, NOW, kickoff_id="k-9")


def entry(run_id: str, number: int = 1, content: object = None) -> InboxEntry:
    return InboxEntry(str(number), "research", Kind.CREW, content, NOW + number / 10, run_id, 1)


async def test_an_entry_is_due_at_the_owner_of_its_run_whichever_process_received_it(adapter: Adapter, store: SqlStore):
    run = await started(store)
    other = await adapter.twin(store, "other")
    stored = entry(run.run_id, content={"result": "größe 🦉 \x00", "n": 2**70})
    assert await other.inbox.add(stored)
    assert await other.inbox.due(9, NOW + 1, ()) == []
    assert await store.inbox.due(9, NOW + 1, ()) == [stored]
    assert await store.inbox.due(9, NOW + 1, {"1"}) == []
    await store.inbox.remove("1")
    assert await store.inbox.due(9, NOW + 1, ()) == []


async def test_the_reports_of_tasks_do_not_delay_the_end_of_a_run(store: SqlStore):
    run = await started(store)
    for number, kind in ((1, Kind.TASK), (2, Kind.STEP), (3, Kind.CREW), (4, Kind.TASK)):
        await store.inbox.add(replace(entry(run.run_id, number), kind=kind))
    assert [due.entry_id for due in await store.inbox.due(9, NOW + 1, ())] == ["3", "1", "2", "4"]
    assert [due.entry_id for due in await store.inbox.due(1, NOW + 1, ())] == ["3"]


async def test_an_entry_waits_while_the_post_of_its_run_is_in_progress(store: SqlStore):
    run = await claimed(store)
    await store.inbox.add(entry(run.run_id))
    assert await store.inbox.due(9, NOW + 1, ()) == []


async def test_any_process_with_the_crew_can_handle_an_entry_of_a_run_without_an_owner(
    adapter: Adapter, store: SqlStore
):
    run = await in_doubt(store)
    other, foreign = await adapter.twin(store, "other"), await adapter.twin(store, "foreign", crews=["writers"])
    await store.inbox.add(entry(run.run_id))
    assert len(await other.inbox.due(9, NOW + 1, ())) == 1
    assert await foreign.inbox.due(9, NOW + 1, ()) == []


async def test_no_policy_acts_on_a_run_in_doubt_before_its_webhooks_are_handled(store: SqlStore):
    run = await in_doubt(store)
    assert run.due_at is not None
    await store.inbox.add(entry(run.run_id))
    assert await store.claim({run.state}, {"research"}, 9, run.due_at) == []
    await store.inbox.remove("1")
    assert len(await store.claim({run.state}, {"research"}, 9, run.due_at)) == 1


async def test_no_post_is_repeated_before_the_webhooks_of_its_run_are_handled(store: SqlStore):
    run = await in_doubt(store)
    await applied(store, Decision(state_machine.requeue(run, NOW)))
    await store.inbox.add(entry(run.run_id))
    await store.inbox.add(QUESTION)  # of no run
    assert await store.claim_accepted("research", 9, 9, NOW) == []
    await store.inbox.remove("1")
    assert len(await store.claim_accepted("research", 9, 9, NOW)) == 1


async def test_an_entry_in_the_memory_of_a_process_is_due_at_the_next_one_and_deleted_with_the_end(
    adapter: Adapter, store: SqlStore
):
    run = await started(store)
    await store.inbox.add(entry(run.run_id))
    await store.inbox.retain("1")
    assert await store.inbox.due(9, NOW + 1, ()) == []
    adapter.execute("UPDATE webhook_inbox SET owner = 'a dead process'")
    assert len(await store.inbox.due(9, NOW + 1, ())) == 1
    await applied(store, end_of(run))
    assert adapter.execute(COUNT) == [(0,)]


async def test_an_entry_is_not_kept_after_the_end_of_its_run(adapter: Adapter, store: SqlStore):
    """Its webhook had made a poll find the end, before the entry was kept."""
    run = await started(store)
    await store.inbox.add(entry(run.run_id))
    await applied(store, end_of(run))
    await store.inbox.retain("1")
    assert len(await store.inbox.due(9, NOW + 1, ())) == 1


async def test_one_entry_of_a_run_is_kept(adapter: Adapter, store: SqlStore):
    run, another = await started(store, 1), await started(store, 2)
    for number, run_id in ((1, another.run_id), (2, run.run_id), (3, run.run_id)):
        await store.inbox.add(entry(run_id, number))
        await store.inbox.retain(str(number))
    assert adapter.execute("SELECT entry_id FROM webhook_inbox ORDER BY entry_id") == [("1",), ("3",)]


async def test_a_question_replaces_an_earlier_one_even_if_that_is_being_handled(store: SqlStore):
    second = replace(QUESTION, entry_id="q-2", content={"output": "And now?"})
    await store.inbox.add(QUESTION)
    await store.inbox.add(second)
    await store.inbox.remove(QUESTION.entry_id)
    assert await store.inbox.due(9, NOW, ()) == [second]


async def test_an_entry_can_be_postponed(store: SqlStore):
    await store.inbox.add(QUESTION)
    assert await store.inbox.due(9, NOW, ()) == [QUESTION]
    await store.inbox.postpone(QUESTION.entry_id, NOW + 60)
    assert await store.inbox.due(9, NOW + 59, ()) == []
    assert await store.inbox.due(9, NOW + 60, ()) == [QUESTION]


async def test_a_run_and_a_crew_have_a_limited_number_of_entries(store: SqlStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbox, "MAX_PER_RUN", 2)
    monkeypatch.setattr(inbox, "MAX_FLOW_QUESTIONS", 1)
    run, another = await started(store, 1), await started(store, 2)
    assert [await store.inbox.add(entry(run.run_id, number)) for number in (1, 2, 3)] == [True, True, False]
    assert await store.inbox.add(entry(another.run_id, 4))
    assert await store.inbox.add(QUESTION)
    second = InboxEntry("q-8", "research", Kind.HUMAN, {}, NOW, kickoff_id="k-8")
    assert not await store.inbox.add(second)


async def test_a_run_has_a_limited_number_of_bytes(store: SqlStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbox, "MAX_BYTES_PER_RUN", 2000)
    run, another = await started(store, 1), await started(store, 2)

    async def added(run_id: str, numbers: range, *sizes: int) -> list[bool]:
        contents = zip(numbers, sizes, strict=False)
        return [await store.inbox.add(entry(run_id, number, "x" * size)) for number, size in contents]

    assert await added(run.run_id, range(9), 2500, 1) == [True, False], "a single one always has room"
    assert await added(another.run_id, range(10, 19), 1000, 1000, 900, 100) == [True, False, True, False]


@pytest.mark.parametrize("limits", [(4, 9999), (99, 400)])
async def test_progress_leaves_room_for_the_end_of_a_run(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int]
):
    monkeypatch.setattr(inbox, "MAX_PER_RUN", limits[0])
    monkeypatch.setattr(inbox, "MAX_BYTES_PER_RUN", limits[1])
    run = await started(store)
    kinds = [Kind.TASK, Kind.TASK, Kind.TASK, Kind.STEP, Kind.STREAM, Kind.CREW, Kind.HUMAN]
    entries = [replace(entry(run.run_id, n, "x" * 80), kind=kind) for n, kind in enumerate(kinds)]
    assert [await store.inbox.add(one) for one in entries] == [True, True, False, False, True, True, False]


async def test_one_claim_takes_a_limited_number_of_bytes(store: SqlStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inbox, "CLAIM_BYTES", 1500)
    run = await started(store)
    for number in (1, 2, 3):
        await store.inbox.add(entry(run.run_id, number, content="x" * 1000))
    assert [one.entry_id for one in await store.inbox.due(9, NOW + 1, ())] == ["1"]


@pytest.mark.parametrize("content", [b"[" * 100_000 + b"]" * 100_000, b"{", b"\xff"], ids=["deep", "torn", "bytes"])
async def test_an_undecodable_entry_is_dropped_and_costs_no_other(adapter: Adapter, store: SqlStore, content: bytes):
    run = await started(store)
    await store.inbox.add(entry(run.run_id, 1))
    adapter.execute("UPDATE webhook_inbox SET content = %s", content)
    await store.inbox.add(entry(run.run_id, 2))
    with capture_logs() as logs:
        assert [one.entry_id for one in await store.inbox.due(9, NOW + 1, ())] == ["2"]
    assert [(line["event"], line["run_id"]) for line in logs] == [("crew_webhook_discarded", run.run_id)]
    assert adapter.execute(COUNT) == [(1,)]


async def test_entries_are_deleted_with_their_run(adapter: Adapter, store: SqlStore):
    run = await refused(store)
    await accepted(store, 2)
    await store.inbox.add(entry(run.run_id))
    adapter.execute("DELETE FROM deliveries")
    assert await store.cluster.delete_ended_runs(NOW + 1, 9) == 1
    assert adapter.execute(COUNT) == [(0,)]
