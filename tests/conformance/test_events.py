"""What `ports.Store` promises about events: found by time and by who may see them, kept also if nobody is sent them."""

from dataclasses import replace

from bridge.adapters.store import SqlStore
from bridge.core import events
from bridge.core.model import CrewPolicy, Envelope, Event, State
from bridge.ports import EventFilter
from tests.fakes import NOW, a_delivery, a_run

NOWHERE, EXCHANGE = CrewPolicy(), CrewPolicy(results_exchange=True)


async def happened(
    store: SqlStore, number: int, at: float, crew: str = "research", source: str = "queue", policy: CrewPolicy = NOWHERE
) -> Event:
    """An event about a new run."""
    run = a_run(number, crew=crew, envelope=Envelope(source))
    await store.accept(run)
    decision = events.about(run, "run.progress", policy, at)
    await store.settle(decision)
    return (*decision.unaddressed, *(delivery.event for delivery in decision.deliveries))[0]


async def test_events_are_found_in_the_order_of_their_times_whether_they_are_sent_anywhere_or_not(store: SqlStore):
    later = await happened(store, 1, NOW + 9)
    sooner = await happened(store, 2, NOW + 5, policy=EXCHANGE)
    await happened(store, 3, NOW)
    found = await store.find_events(EventFilter(NOW + 5))
    assert list(found.items()) == [(sooner.event_id, NOW + 5), (later.event_id, NOW + 9)]
    assert await store.load_events([*reversed(found), "forgotten"]) == [sooner, later]
    assert list(await store.find_events(EventFilter(NOW, limit=2))) == [f"{a_run(3).run_id}-progress", sooner.event_id]


async def test_events_of_crews_and_senders_are_found_apart(store: SqlStore):
    mine = await happened(store, 1, NOW, "research", "client/a")
    others = await happened(store, 2, NOW + 1, "research", "client/b")
    elsewhere = await happened(store, 3, NOW + 2, "triage", "client/a")
    assert set(await store.find_events(EventFilter(NOW, source="client/a"))) == {mine.event_id, elsewhere.event_id}
    of_crew = await store.find_events(EventFilter(NOW, frozenset({"research"})))
    assert set(of_crew) == {mine.event_id, others.event_id}
    both = await store.find_events(EventFilter(NOW, frozenset({"triage"}), "client/b"))
    assert both == {}


async def test_what_belongs_to_no_run_is_not_among_them(store: SqlStore):
    await store.file([a_delivery()])
    assert await store.find_events(EventFilter(0.0)) == {}


async def test_an_event_without_a_destination_is_forgotten_with_its_run(store: SqlStore):
    event = await happened(store, 1, NOW)
    run = await store.load(event.run_id or "")
    assert run is not None
    await store.settle(
        events.about(replace(run, finished_at=NOW, state=State.CANCELLED), "run.cancelled", NOWHERE, NOW)
    )
    assert await store.forget(NOW + 1, 9) == 1
    assert await store.find_events(EventFilter(0.0)) == {}
