"""Contract of callbacks: concurrency limits, receivers, and attempts."""

import asyncio
from dataclasses import replace

import pytest

from bridge.adapters.store import SqlStore
from bridge.adapters.store.queries import callbacks
from bridge.core.delivery.model import Attempt, Channel, Delivery, DeliveryState, Destination, Receiver
from bridge.core.delivery.outcome import (
    CallbackReply,
    Confirmed,
    Retryable,
    SendResult,
    Undeliverable,
    outcome_of_attempt,
)
from bridge.core.delivery.receivers import PAUSE_AFTER, ConcurrencyLimits
from bridge.ports.queries import DeliveryFilter
from tests.contract.conftest import Adapter, silence
from tests.contract.run_states import counts
from tests.fakes import NOW, a_delivery

LIMITS = ConcurrencyLimits(slots=12, proven=3, unproven=1)
DEAD, LIVE = "https://dead.example:443", "https://live.example:443"


def to(host: str, number: int, due_at: float = NOW) -> Delivery:
    return replace(a_delivery(number, due_at=due_at), destination=Destination(Channel.CALLBACK, f"https://{host}/x"))


async def claim(
    store: SqlStore, limit: int = 99, now: float = NOW, limits: ConcurrencyLimits = LIMITS
) -> list[Delivery]:
    return await store.deliveries.claim_callbacks(limit, limits, now)


async def record(store: SqlStore, delivery: Delivery, result: SendResult, now: float = NOW) -> Delivery:
    outcome = outcome_of_attempt(delivery, result, now)
    await store.deliveries.record_outcome(outcome)
    return outcome.delivery


async def prove(store: SqlStore, host: str, number: int = 9000) -> None:
    """Let a receiver accept an event."""
    await store.deliveries.add([to(host, number, due_at=NOW - 1e6)])
    [first] = await claim(store, now=NOW - 1e6)
    await record(store, first, Confirmed(), NOW - 1e6)


def hosts(deliveries: list[Delivery]) -> list[str]:
    return [delivery.destination.target.split("/")[2].split(".")[0] for delivery in deliveries]


class TestConcurrencyLimits:
    async def test_a_new_receiver_is_tried_with_one_call(self, store: SqlStore):
        await store.deliveries.add([to("new.example", number) for number in range(5)])
        assert hosts(await claim(store)) == ["new"]
        assert await claim(store) == []

    async def test_a_working_receiver_is_limited(self, store: SqlStore):
        await prove(store, "live.example")
        await store.deliveries.add([to("live.example", number) for number in range(9)])
        taken = await claim(store)
        assert hosts(taken) == ["live"] * 3
        assert taken[0].receiver == Receiver(LIVE)
        await record(store, taken[0], Confirmed())
        assert hosts(await claim(store)) == ["live"]

    async def test_a_failure_lowers_the_limit_and_a_success_restores_it(self, store: SqlStore):
        await prove(store, "live.example")
        await store.deliveries.add([to("live.example", number) for number in range(9)])
        [one, two, three] = await claim(store)
        await record(store, one, Retryable("HTTP 500"))
        assert await claim(store) == []
        await record(store, two, Retryable("HTTP 500"))
        await record(store, three, Retryable("HTTP 500"))
        [four] = await claim(store)
        assert four.receiver == Receiver(LIVE, failing_since=NOW)
        await record(store, four, Confirmed())
        assert hosts(await claim(store)) == ["live"] * 3

    async def test_a_backlog_for_one_receiver_does_not_hide_due_deliveries_for_others(
        self, store: SqlStore, monkeypatch: pytest.MonkeyPatch
    ):
        """Claims took the longest due first, whatever their receiver."""
        monkeypatch.setattr(callbacks, "_PAGE", 4)
        await store.deliveries.add([to("dead.example", number, due_at=NOW - 99) for number in range(40)])
        await store.deliveries.add([to(f"{name}.example", 100 + number) for number, name in enumerate("abc")])
        assert sorted(hosts(await claim(store))) == ["a", "b", "c", "dead"]

    async def test_the_longest_due_comes_first(self, store: SqlStore):
        await store.deliveries.add([to(f"h{number}.example", number, due_at=NOW - number) for number in range(6)])
        assert hosts(await claim(store, limit=3)) == ["h5", "h4", "h3"]

    async def test_unproven_receivers_share_half_of_the_slots(self, store: SqlStore):
        await prove(store, "live.example")
        await store.deliveries.add([to(f"dead{number}.example", number, due_at=NOW - 60) for number in range(50)])
        await store.deliveries.add([to("live.example", 100)])
        first = await claim(store, limit=12)
        assert len(first) == 7
        assert "live" in hosts(first)
        assert await claim(store, limit=5) == []

    async def test_only_due_deliveries_are_claimed_and_none_twice(self, store: SqlStore):
        await store.deliveries.add(
            [to("a.example", 1), to("b.example", 2, due_at=NOW + 5), a_delivery(3, Channel.QUEUE)]
        )
        assert hosts(await claim(store)) == ["a"]
        assert await claim(store, now=NOW + 4) == []
        assert hosts(await claim(store, now=NOW + 5)) == ["b"]

    async def test_claims_of_another_process_count(self, adapter: Adapter, store: SqlStore):
        other = await adapter.twin(store, "other")
        await store.deliveries.add([to("new.example", number) for number in range(5)])
        assert len(await claim(store)) == 1
        assert await claim(other) == []


class TestReceivers:
    async def failing(self, store: SqlStore, number: int = 1, since: float = NOW) -> Delivery:
        await store.deliveries.add([to("dead.example", number, due_at=since)])
        [first] = await claim(store, now=since)
        return await record(store, first, Retryable("HTTP 500"), since)

    async def test_a_receiver_that_failed_for_days_is_paused_and_its_deliveries_wait(self, store: SqlStore):
        await self.failing(store)
        later = NOW + PAUSE_AFTER
        [again] = await claim(store, now=later)
        paused = await record(store, again, Retryable("HTTP 500"), later)
        assert paused.receiver == Receiver(DEAD, NOW, paused_at=later)
        await store.deliveries.add([to("dead.example", 2, due_at=later)])
        assert await claim(store, now=later + 99 * 86_400) == []

    async def test_a_pause_found_by_two_attempts_is_announced_once(self, store: SqlStore):
        for number in (1, 2):
            await self.failing(store, number)
        later = NOW + PAUSE_AFTER
        both = await store.deliveries.claim([Channel.CALLBACK], 9, later)
        for delivery in both:
            await record(store, delivery, Retryable("HTTP 500"), later)
        [notice] = await store.deliveries.claim([Channel.EXCHANGE], 9, later)
        assert notice.event.type == "delivery.paused"

    async def test_a_pause_found_by_two_attempts_of_one_batch_is_announced_once(self, store: SqlStore):
        for number in (1, 2):
            await self.failing(store, number)
        later = NOW + PAUSE_AFTER
        both = await store.deliveries.claim([Channel.CALLBACK], 9, later)
        await asyncio.gather(*(record(store, delivery, Retryable("x"), later) for delivery in both))
        assert len(await store.deliveries.claim([Channel.EXCHANGE], 9, later)) == 1

    async def test_a_receiver_without_deliveries_is_deleted(self, adapter: Adapter, store: SqlStore):
        await prove(store, "live.example")
        await self.failing(store)
        assert adapter.execute("SELECT count(*) FROM receivers") == [(2,)]
        await store.cluster.delete_ended_runs(NOW + 1, 9)
        assert adapter.execute("SELECT receiver FROM receivers") == [(DEAD,)]


class TestAttempts:
    async def test_every_attempt_is_stored(self, store: SqlStore):
        await store.deliveries.add([to("a.example", 1)])
        for result in (
            Retryable("HTTP 500", reply=CallbackReply(500, b"\xff\x00 busy")),
            Confirmed(CallbackReply(204)),
        ):
            [delivery] = await claim(store, now=NOW + 3600)
            await store.deliveries.record_outcome(outcome_of_attempt(delivery, result, NOW, seconds=0.25))
        assert await store.queries.attempts_for_delivery(delivery.delivery_id) == [
            Attempt(1, NOW - 0.25, 0.25, "HTTP 500", 500, b"\xff\x00 busy"),
            Attempt(2, NOW - 0.25, 0.25, None, 204, b""),
        ]

    async def test_the_last_fifty_attempts_of_a_delivery_are_kept(self, store: SqlStore):
        await store.deliveries.add([a_delivery(1, Channel.EXCHANGE)])
        for _ in range(55):
            [delivery] = await store.deliveries.claim([Channel.EXCHANGE], 1, NOW + 1e9)
            await record(store, delivery, Retryable("unroutable"))
        kept = await store.queries.attempts_for_delivery(delivery.delivery_id)
        assert [attempt.number for attempt in kept] == list(range(6, 56))

    async def test_an_attempt_of_a_process_that_lost_the_delivery_is_ignored(self, adapter: Adapter, store: SqlStore):
        await store.deliveries.add([to("a.example", 1)])
        [slow] = await claim(store)
        other = await adapter.twin(store, "other", NOW + 1)
        silence(adapter, "me", 60.0)
        await other.cluster.expire_processes(NOW, 30.0)
        [again] = await claim(other)
        await record(other, again, Confirmed())
        await record(store, slow, Undeliverable("HTTP 410"))
        assert [attempt.error for attempt in await store.queries.attempts_for_delivery(slow.delivery_id)] == [None]


class TestRedelivering:
    async def dead(self, store: SqlStore, number: int = 1, crew: str | None = "research", at: float = NOW) -> Delivery:
        await store.deliveries.add([to_crew(number, crew, at)])
        [delivery] = await claim(store, now=NOW)
        return await record(store, delivery, Undeliverable("HTTP 410"))

    async def test_a_dead_delivery_is_pending_again_with_a_new_schedule_and_the_same_event(self, store: SqlStore):
        dead = await self.dead(store)
        assert await store.queries.redeliver(DeliveryFilter(dead.delivery_id), NOW + 5) == 1
        [again] = await claim(store, now=NOW + 5)
        assert (again.event, again.delivery_id) == (dead.event, dead.delivery_id)
        assert (again.attempts, again.earlier_attempts, again.due_at) == (1, 1, NOW + 5)
        assert (await record(store, again, Retryable("HTTP 500"))).due_at == pytest.approx(NOW + 5, abs=1.1)

    async def test_every_filter_applies(self, store: SqlStore):
        await self.dead(store, 1, "research", NOW)
        await self.dead(store, 2, "triage", NOW + 10)
        await self.dead(store, 3, None, NOW + 20)
        await store.deliveries.add([to_crew(4, "research", NOW)])
        rows = [
            (DeliveryFilter(state=DeliveryState.DEAD), [3, 2, 1]),
            (DeliveryFilter(state=DeliveryState.PENDING), [4]),
            (DeliveryFilter(crew="triage"), [2]),
            (DeliveryFilter(crews=frozenset({"research"})), [4, 1]),
            (DeliveryFilter(crews=frozenset()), []),
            (DeliveryFilter(since=NOW + 10), [3, 2]),
            (DeliveryFilter(until=NOW + 10), [4, 1]),
            (DeliveryFilter(before="event-0003-1"), [2, 1]),
            (DeliveryFilter(limit=2), [4, 3]),
            (DeliveryFilter(run_id="no-such-run"), []),
        ]
        for which, numbers in rows:
            found = await store.queries.find_deliveries(which)
            assert [delivery.delivery_id for delivery in found] == [f"event-{number:04}-1" for number in numbers]
        until = DeliveryFilter(state=DeliveryState.DEAD, until=NOW + 20)
        assert await store.queries.count_redeliverable(until) == 2
        assert await store.queries.redeliver(until, NOW) == 2
        assert (await counts(store))["deliveries"] == {"dead": 1, "pending": 3}

    async def test_a_delivery_being_sent_is_left_unchanged(self, store: SqlStore):
        await store.deliveries.add([to_crew(1, "research", NOW)])
        [sending] = await claim(store)
        assert await store.queries.redeliver(DeliveryFilter(sending.delivery_id), NOW) == 0
        assert (await record(store, sending, Confirmed())).state is DeliveryState.DELIVERED

    async def test_a_resumed_receiver_gets_its_deliveries_again(self, store: SqlStore):
        await store.deliveries.add([to("dead.example", 1)])
        for at in (NOW, later := NOW + PAUSE_AFTER):
            [sending] = await claim(store, now=at)
            await record(store, sending, Retryable("HTTP 500"), at)
        much_later = later + 86_400 * 2
        assert await claim(store, now=much_later) == []
        for receiver, count in [("https://dead.example:443", 1), ("https://other.example:443", 0)]:
            assert await store.queries.count_redeliverable(DeliveryFilter(receiver=receiver)) == count
        assert await store.queries.resume_receivers("https://other.example:443", None) == 0
        assert await store.queries.resume_receivers(None, None) == 1
        assert await store.queries.failing_receivers(None) == []
        assert len(await claim(store, now=much_later)) == 1

    async def test_a_discarded_delivery_is_dead_unless_it_is_being_sent(self, store: SqlStore):
        await store.deliveries.add([to_crew(1, "research", NOW)])
        [sending] = await claim(store)
        await store.queries.discard(sending.delivery_id, "client/ops")
        await record(store, sending, Retryable("HTTP 500"))
        await store.queries.discard(sending.delivery_id, "client/ops")
        [dead] = await store.queries.find_deliveries(DeliveryFilter())
        assert (dead.state, dead.last_error) == (DeliveryState.DEAD, "discarded by client/ops")
        assert await claim(store, now=NOW + 86_400) == []

    async def test_a_redelivery_to_a_paused_receiver_resumes_it(self, store: SqlStore):
        await store.deliveries.add([to("dead.example", number) for number in (1, 2)])
        [first] = await claim(store)
        await record(store, first, Retryable("HTTP 500"))
        later = NOW + PAUSE_AFTER
        [again] = await claim(store, now=later)
        await record(store, again, Retryable("HTTP 500"), later)
        waiting = await store.queries.find_deliveries(DeliveryFilter(state=DeliveryState.PENDING))
        assert [one.paused for one in waiting if one.destination.channel is Channel.CALLBACK] == [True, True]
        assert [one.paused_at for one in await store.queries.failing_receivers(None)] == [later]
        assert await store.queries.failing_receivers({"research"}) == []
        assert await store.queries.resume_receivers(None, {"research"}) == 0
        assert await store.queries.redeliver(DeliveryFilter(again.delivery_id), later) == 1
        [tried] = await claim(store, now=later)
        await record(store, tried, Confirmed(), later)
        assert len(await claim(store, now=later + 86_400)) == 1


def to_crew(number: int, crew: str | None, at: float) -> Delivery:
    event = replace(a_delivery(number).event, crew=crew, created_at=at)
    return replace(to(f"{crew}.example", number), event=event)
