"""The history of a run in its row."""

from dataclasses import replace

from bridge.adapters.store import SqlStore
from bridge.core.runs import history
from bridge.core.runs.model import Decision
from tests.contract.conftest import Adapter
from tests.contract.run_states import accepted, end_of, started
from tests.fakes import NOW, applied


def events(history_of: list[dict[str, object]]) -> list[object]:
    return [entry["event"] for entry in history_of]


async def test_the_history_is_stored_with_each_write_of_the_run(store: SqlStore):
    run = await started(store)
    ended = await applied(store, end_of(run))
    stored = await store.load(run.run_id)
    assert stored is not None
    assert stored.history == ended.history
    assert events(history.decoded(stored.history)) == [
        "accepted",
        "posted",
        "answered",
        "first_poll",
        "last_poll",
        "ended",
    ]


async def test_any_text_is_read_as_it_was_written(store: SqlStore):
    run = await accepted(store)
    run = history.record(run, "deferred", NOW + 1 / 3, reason='ä\n"\r\x00\u2028')
    written = await applied(store, Decision(run))
    assert await store.load(run.run_id) == written


async def test_summaries_are_loaded_without_the_history(store: SqlStore):
    run = await accepted(store)
    peeked = await store.queries.peek(run.run_id)
    assert peeked is not None
    assert (peeked.run_id, peeked.history) == (run.run_id, ())


async def test_a_run_without_a_history_is_read(adapter: Adapter, store: SqlStore):
    run = await accepted(store)
    adapter.execute("UPDATE runs SET history = NULL WHERE run_id = %s", run.run_id)
    assert await store.load(run.run_id) == replace(run, history=())


async def test_a_history_that_cannot_be_decoded_does_not_stop_its_run(adapter: Adapter, store: SqlStore):
    run = await accepted(store)
    adapter.execute("UPDATE runs SET history = %s WHERE run_id = %s", b"{broken", run.run_id)
    loaded = await store.load(run.run_id)
    assert loaded is not None
    written = await applied(store, Decision(history.record(loaded, "deferred", NOW)))
    assert await store.load(run.run_id) == written
    assert events(history.decoded(written.history)) == ["deferred"]
