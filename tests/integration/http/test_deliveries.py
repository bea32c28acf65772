"""Deliveries over HTTP: list, get, and redeliver."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.delivery.model import Attempt, Delivery, DeliveryState
from bridge.ports.queries import DeliveryFilter
from tests.fakes import a_delivery
from tests.http_client import Bridge, problem, run_id, serving

NOW = 1_700_000_000.0


def some(bridge: Bridge, count: int = 1) -> list[Delivery]:
    found = [replace(a_delivery(number, crew="research"), state=DeliveryState.DEAD) for number in range(1, count + 1)]
    bridge.store.deliveries["x"] = found
    return found


async def test_deliveries_are_listed_page_by_page():
    async with serving() as bridge:
        some(bridge, 3)
        first = await (await bridge.get("/v1/deliveries?limit=2&state=dead&crew=research")).json()
        assert [one["id"] for one in first["deliveries"]] == ["event-0003-1", "event-0002-1"]
        assert first["next_cursor"] == "event-0002-1"
        await bridge.get(f"/v1/deliveries?cursor=event-0002-1&run_id={run_id(1)}")
        assert bridge.store.content == [
            DeliveryFilter(state=DeliveryState.DEAD, crew="research", limit=3),
            DeliveryFilter(run_id=run_id(1), before="event-0002-1", limit=51),
        ]


async def test_the_last_page_is_marked():
    async with serving() as bridge:
        some(bridge, 2)
        page = await (await bridge.get("/v1/deliveries?limit=2")).json()
        assert (len(page["deliveries"]), page["next_cursor"]) == (2, None)


@pytest.mark.parametrize(
    ("query", "name"),
    [("state=lost", "state"), ("limit=0", "limit"), ("cursor=a.b", "cursor"), ("x=1", "x")],
)
async def test_an_invalid_filter_is_named(query: str, name: str):
    async with serving() as bridge:
        document = await problem(await bridge.get(f"/v1/deliveries?{query}"), 422, "invalid_request")
        assert document["field"] == name


async def test_one_delivery_is_returned_with_its_attempts():
    async with serving() as bridge:
        [one] = some(bridge)
        bridge.store.attempts = [
            Attempt(1, NOW, 0.1234, "HTTP 500", 500, b"\xff busy"),
            Attempt(2, NOW, 15.0, "timed out"),
        ]
        shown = await (await bridge.get(f"/v1/deliveries/{one.delivery_id}")).json()
        assert (shown["id"], shown["state"]) == (one.delivery_id, "dead")
        at = "2023-11-14T22:13:20.000Z"
        assert shown["history"] == [
            {"number": 1, "at": at, "ms": 123, "code": 500, "error": "HTTP 500", "response": "\ufffd busy"},
            {"number": 2, "at": at, "ms": 15000, "code": None, "error": "timed out", "response": None},
        ]


@pytest.mark.parametrize("delivery_id", ["event-0404-1", "a.b", "%00", "x" * 300])
async def test_an_unknown_delivery_is_not_found(delivery_id: str):
    async with serving() as bridge:
        await problem(await bridge.get(f"/v1/deliveries/{delivery_id}"), 404, "unknown_delivery")
        await problem(await bridge.post(f"/v1/deliveries/{delivery_id}/redeliver"), 404, "unknown_delivery")


async def test_one_delivery_is_redelivered_at_once():
    async with serving() as bridge:
        [one] = some(bridge)
        response = await bridge.post(f"/v1/deliveries/{one.delivery_id}/redeliver", {"reason": "receiver repaired"})
        assert (await response.json())["id"] == one.delivery_id
        assert bridge.store.redelivered == [(DeliveryFilter(one.delivery_id), NOW)]
        assert bridge.notified.is_set()


async def test_a_pending_delivery_is_discarded():
    async with serving() as bridge:
        pending, delivered, busy = (
            replace(a_delivery(number), state=state)
            for number, state in enumerate((DeliveryState.PENDING, DeliveryState.DELIVERED, DeliveryState.PENDING))
        )
        bridge.store.deliveries["x"] = [pending, delivered, busy]
        bridge.store.in_progress = {busy.delivery_id}
        for _ in range(2):
            response = await bridge.post(
                f"/v1/deliveries/{pending.delivery_id}/discard", {"reason": "receiver is gone"}
            )
            assert (await response.json())["state"] == "dead"
        assert bridge.store.discarded[0] == (pending.delivery_id, "client/operator")
        for other in (delivered, busy):
            await problem(await bridge.post(f"/v1/deliveries/{other.delivery_id}/discard"), 409, "not_discarded")


async def test_redelivery_by_filter_selects_dead_ones_by_default():
    async with serving() as bridge:
        filter_ = {"since": "2026-11-24T08:00:00Z", "until": "2026-11-24T10:00:00+01:00", "crew": "research"}
        response = await bridge.post("/v1/deliveries/redeliver", {"filter": filter_})
        assert await response.json() == {"matched": 7, "done": 7}
        pending = {"state": "pending", "receiver": "https://shop.example:443"}
        await bridge.post("/v1/deliveries/redeliver", {"filter": pending})
        first, second = [which for which, _ in bridge.store.redelivered]
        assert (first.state, first.crew, first.until) == (DeliveryState.DEAD, "research", (first.since or 0) + 3600)
        assert second == DeliveryFilter(state=DeliveryState.PENDING, receiver="https://shop.example:443")
        assert bridge.notified.is_set()


async def test_a_dry_run_redelivers_nothing():
    async with serving() as bridge:
        with capture_logs() as logs:
            response = await bridge.post("/v1/deliveries/redeliver", {"filter": {"crew": "research"}, "dry_run": True})
        assert await response.json() == {"matched": 7, "done": 0}
        assert bridge.store.dry_runs == [DeliveryFilter(state=DeliveryState.DEAD, crew="research")]
        assert bridge.store.redelivered == []
        [audit] = [line for line in logs if line["event"] == "command_audited"]
        assert (audit["filter"], audit["dry_run"], audit["matched"]) == ({"crew": "research"}, True, 7)


@pytest.mark.parametrize(
    ("filter_", "field"),
    [
        (None, "filter"),
        ([], "filter"),
        ({"state": "lost"}, "state"),
        ({"state": 7}, "filter"),
        ({"crew": "a b"}, "crew"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-11-24T08:00:00"}, "until"),
        ({"untill": "2026-11-24T08:00:00Z"}, "untill"),
        ({"receiver": ""}, "receiver"),
    ],
)
async def test_an_invalid_redelivery_names_the_field(filter_: dict[str, Any], field: str):
    async with serving() as bridge:
        body = {"filter": filter_}
        document = await problem(await bridge.post("/v1/deliveries/redeliver", body), 422, "invalid_request")
        assert document["field"] == field
        assert bridge.store.redelivered == []


async def test_redelivery_of_one_delivery_has_no_options():
    async with serving() as bridge:
        [one] = some(bridge)
        response = await bridge.post(f"/v1/deliveries/{one.delivery_id}/redeliver", {"state": "dead"})
        assert (await problem(response, 422, "invalid_request"))["field"] == "state"
