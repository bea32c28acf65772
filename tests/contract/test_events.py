"""Contract of events: their order, their visibility, and events without a destination."""

from dataclasses import replace

from bridge.adapters.store import SqlStore
from bridge.adapters.store.queries import events as event_queries
from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery import events
from bridge.core.delivery.model import Event
from bridge.core.runs.model import Envelope, State
from bridge.ports.queries import StoredEvent
from tests.fakes import NOW, a_delivery, a_run, applied

NOWHERE, EXCHANGE = CrewPolicy(), CrewPolicy(results_exchange=True)


def ids(found: list[StoredEvent]) -> dict[str, float]:
    """The ids of the events and the times at which they were stored, in order."""
    return {one.event_id: one.stored_at for one in found}


async def happened(
    store: SqlStore, number: int, at: float, crew: str = "research", source: str = "queue", policy: CrewPolicy = NOWHERE
) -> Event:
    """An event about a new run."""
    run = a_run(number, crew=crew, envelope=Envelope(source))
    await store.accept(run)
    decision = events.with_event(run, "run.progress", policy, at)
    await applied(store, decision)
    return (*decision.unaddressed, *(delivery.event for delivery in decision.deliveries))[0]


async def test_events_are_listed_in_the_order_in_which_they_were_stored(store: SqlStore):
    """Not in the order of their own times: a poll takes time, and the store may be unavailable."""
    stored = [
        await happened(store, 1, NOW + 9),
        await happened(store, 2, NOW + 5, policy=EXCHANGE),
        await happened(store, 3, NOW),
    ]
    found = ids(await store.queries.find_events(0.0, 99))
    assert list(found) == [event.event_id for event in stored]
    assert len(set(found.values())) == 3
    assert await store.queries.load_events([*reversed(found), "forgotten"]) == stored
    assert list(ids(await store.queries.find_events(0.0, 2))) == [event.event_id for event in stored[:2]]
    since = found[stored[1].event_id]
    assert list(ids(await store.queries.find_events(since, 99))) == [event.event_id for event in stored[1:]]


async def test_events_stored_together_are_listed_in_the_order_of_their_times(store: SqlStore):
    """For example in_doubt and the end that follows from it."""
    await happened(store, 1, NOW + 60)
    run = a_run(2)
    await store.accept(run)
    end = events.with_event(run, "run.failed", EXCHANGE, NOW + 2)
    doubt = events.with_event(run, "run.in_doubt", NOWHERE, NOW)
    await applied(store, replace(end, unaddressed=doubt.unaddressed))
    assert list(ids(await store.queries.find_events(0.0, 99)))[1:] == [f"{run.run_id}-in_doubt", f"{run.run_id}-failed"]


async def test_the_time_at_which_an_event_was_stored_is_available(store: SqlStore):
    assert await store.queries.stored_at() is None
    first, second = await happened(store, 1, NOW), await happened(store, 2, NOW)
    found = ids(await store.queries.find_events(0.0, 99))
    assert await store.queries.stored_at(first.event_id) == found[first.event_id]
    assert await store.queries.stored_at() == found[second.event_id]
    assert await store.queries.stored_at("forgotten") is None


async def test_events_are_listed_with_what_determines_their_visibility(store: SqlStore):
    mine = await happened(store, 1, NOW, "research", "client/a")
    others = await happened(store, 2, NOW + 1, "research", "client/b")
    elsewhere = await happened(store, 3, NOW + 2, "triage", "client/a")
    assert [(one.event_id, one.crew, one.source) for one in await store.queries.find_events(0.0, 99)] == [
        (mine.event_id, "research", "client/a"),
        (others.event_id, "research", "client/b"),
        (elsewhere.event_id, "triage", "client/a"),
    ]


async def test_loaded_events_are_limited_in_bytes(store: SqlStore):
    """A stream holds them while its client reads; a large event is loaded alone."""
    sizes = [event_queries.BODIES_BYTES, 10, event_queries.BODIES_BYTES - 10, 10]
    made = [a_delivery(number).event for number in range(4)]
    stored = [replace(event, body=b"x" * size) for event, size in zip(made, sizes, strict=True)]
    for number, event in enumerate(stored):
        await store.deliveries.add([replace(a_delivery(number), event=event)])
    left = [event.event_id for event in stored]
    loaded = []
    while left:
        loaded.append([event.event_id for event in await store.queries.load_events(left)])
        left = left[len(loaded[-1]) :]
    assert [len(some) for some in loaded] == [1, 2, 1]


async def test_events_without_a_run_are_not_listed(store: SqlStore):
    await store.deliveries.add([a_delivery()])
    assert await store.queries.find_events(0.0, 99) == []


async def test_an_event_without_a_destination_is_deleted_with_its_run(store: SqlStore):
    event = await happened(store, 1, NOW)
    run = await store.load(event.run_id or "")
    assert run is not None
    await applied(
        store, events.with_event(replace(run, finished_at=NOW, state=State.CANCELLED), "run.cancelled", NOWHERE, NOW)
    )
    assert await store.cluster.delete_ended_runs(NOW + 1, 9) == 1
    assert await store.queries.find_events(0.0, 99) == []
