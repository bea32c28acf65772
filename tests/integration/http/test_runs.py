"""Reading runs over HTTP: one run with its deliveries, and lists page by page."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from bridge.core.delivery.model import Channel, Delivery, DeliveryState, Destination, Event
from bridge.core.json import EncodedObject, compact
from bridge.core.runs.model import Envelope, KickoffRequest, Outcome, State
from tests.http_client import STORE_AWAY, Bridge, problem, run_id, serving


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with serving() as served:
        yield served


def delivery(channel: Channel, target: str, state: DeliveryState = DeliveryState.PENDING) -> Delivery:
    event = Event("e-1", "run.succeeded", b"{}", "application/json", 0.0, run_id(1))
    return Delivery("e-1-1", event, Destination(channel, target), state, 2, 1_700_000_000.5, "connection refused")


async def test_a_run_is_returned_with_its_deliveries(bridge: Bridge) -> None:
    run = bridge.store.add(state=State.SUCCEEDED, kickoff_id="k-1", outcome=Outcome(result="done"))
    bridge.store.deliveries[run.run_id] = [delivery(Channel.EXCHANGE, "research.succeeded")]
    shown = await (await bridge.get(f"/v1/runs/{run.run_id}")).json()
    assert (shown["run_id"], shown["state"], shown["result"]) == (run.run_id, "succeeded", "done")
    assert shown["deliveries"] == [
        {
            "id": "e-1-1",
            "run_id": run.run_id,
            "event_id": "e-1",
            "type": "run.succeeded",
            "destination": "exchange:research.succeeded",
            "state": "pending",
            "attempts": 2,
            "earlier_attempts": 0,
            "next_attempt_at": "2023-11-14T22:13:20.500Z",
            "last_error": "connection refused",
            "delivered_at": None,
        }
    ]


@pytest.mark.parametrize("as_stored", [dict, lambda inputs: EncodedObject(compact(inputs))], ids=["small", "large"])
async def test_one_run_has_its_inputs_and_its_trace_id(
    bridge: Bridge, as_stored: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> None:
    """An operator had to ask the sender what a run was about; lists stay small."""
    inputs, traceparent = {"topic": "peat", "big": 2**70}, f"00-{'ab' * 16}-{'cd' * 8}-01"
    run = bridge.store.add(
        request=KickoffRequest("research", as_stored(inputs)), envelope=Envelope("s", traceparent=traceparent)
    )
    shown = json.loads(await (await bridge.get(f"/v1/runs/{run.run_id}")).read())
    assert (shown["inputs"], shown["trace_id"]) == (inputs, "ab" * 16)
    [listed] = (await (await bridge.get("/v1/runs")).json())["runs"]
    assert {"inputs", "trace_id"} & set(listed) == set()


async def test_the_response_to_a_command_has_no_inputs(bridge: Bridge) -> None:
    run = bridge.store.add(request=KickoffRequest("research", {"topic": "peat"}), envelope=Envelope("client/submitter"))
    shown = await (await bridge.post(f"/v1/runs/{run.run_id}/cancel")).json()
    assert (shown["run_id"], shown["trace_id"], "inputs" in shown) == (run.run_id, None, False)


async def test_a_delivery_has_the_time_of_its_confirmation(bridge: Bridge) -> None:
    run = bridge.store.add(state=State.SUCCEEDED, kickoff_id="k-1", outcome=Outcome(result="done"))
    taken = delivery(Channel.EXCHANGE, "research.succeeded", DeliveryState.DELIVERED)
    bridge.store.deliveries[run.run_id] = [replace(taken, delivered_at=1_700_000_001.25)]
    shown = await (await bridge.get(f"/v1/runs/{run.run_id}")).json()
    assert shown["deliveries"][0]["delivered_at"] == "2023-11-14T22:13:21.250Z"


async def test_the_result_is_returned_in_full(bridge: Bridge) -> None:
    """The target of the `dataref` of an event."""
    outcome = Outcome("x" * 3_000_000, {"big": 2**70})
    run = bridge.store.add(state=State.SUCCEEDED, outcome=outcome)
    shown = json.loads(await (await bridge.get(f"/v1/runs/{run.run_id}/result")).read())
    expected = {"run_id": run.run_id, "state": "succeeded", "result": outcome.result, "result_json": {"big": 2**70}}
    assert shown == expected


async def test_a_run_without_a_result_has_a_code_of_its_own(bridge: Bridge) -> None:
    run = bridge.store.add(state=State.RUNNING)
    shown = await (await bridge.get(f"/v1/runs/{run.run_id}/result")).json()
    assert shown == {"run_id": run.run_id, "state": "running", "result": None, "result_json": None}


async def test_the_result_of_an_unknown_run_is_not_found(bridge: Bridge) -> None:
    assert (await bridge.get(f"/v1/runs/{run_id(404)}/result")).status == 404


@pytest.mark.parametrize(
    ("channel", "target", "shown"),
    [
        (Channel.QUEUE, "reply.orders", "queue:reply.orders"),
        (Channel.CALLBACK, "https://me:pw@shop.example:8443/done?token=t#f", "https://shop.example:8443/done"),
        (Channel.CALLBACK, "https://[2001:db8::1]/done", "https://[2001:db8::1]/done"),
    ],
)
async def test_a_destination_contains_no_secret(bridge: Bridge, channel: Channel, target: str, shown: str) -> None:
    """Passwords and query strings of callback URLs grant access elsewhere."""
    run = bridge.store.add()
    bridge.store.deliveries[run.run_id] = [delivery(channel, target)]
    document = await (await bridge.get(f"/v1/runs/{run.run_id}")).json()
    assert document["deliveries"][0]["destination"] == shown


async def test_a_completed_delivery_has_no_next_attempt(bridge: Bridge) -> None:
    run = bridge.store.add()
    bridge.store.deliveries[run.run_id] = [delivery(Channel.QUEUE, "q", state) for state in DeliveryState]
    shown = await (await bridge.get(f"/v1/runs/{run.run_id}")).json()
    assert [one["next_attempt_at"] is None for one in shown["deliveries"]] == [False, True, True]


@pytest.mark.parametrize("strange", ["1", "..", "%00", "%2e%2e%2fx", "0" * 5000, run_id(1).replace("-", "_")])
async def test_an_invalid_run_id_is_not_looked_up(bridge: Bridge, strange: str) -> None:
    """A database would fail for some of these, and a response of its own would reveal which."""
    response = await bridge.get(f"/v1/runs/{strange}")
    assert response.status == 404
    assert bridge.store.polls == 0


async def test_integers_beyond_64_bits_are_returned(bridge: Bridge) -> None:
    """The fast JSON serializer refuses them; a run must stay readable whatever its crew returned."""
    run = bridge.store.add(outcome=Outcome(result_json={"big": 2**70, "half": "\ud800"}))
    shown = json.loads(await (await bridge.get(f"/v1/runs/{run.run_id}")).read())
    assert shown["result_json"] == {"big": 2**70, "half": "\ud800"}


async def test_pages_follow_each_other_to_the_end(bridge: Bridge) -> None:
    """Newest first, no run twice, none missing, and the last page is marked as the last."""
    for _ in range(5):
        bridge.store.add()
    seen, cursor = [], ""
    while cursor is not None:
        page = await (await bridge.get(f"/v1/runs?limit=2{cursor and '&cursor='}{cursor}")).json()
        seen.append([run["run_id"] for run in page["runs"]])
        cursor = page["next_cursor"]
    assert seen == [[run_id(5), run_id(4)], [run_id(3), run_id(2)], [run_id(1)]]


async def test_a_full_last_page_is_marked_as_the_last(bridge: Bridge) -> None:
    bridge.store.add()
    bridge.store.add()
    page = await (await bridge.get("/v1/runs?limit=2")).json()
    assert len(page["runs"]) == 2
    assert page["next_cursor"] is None
    assert "deliveries" not in page["runs"][0]


async def test_filters_reach_the_store(bridge: Bridge) -> None:
    bridge.store.add("triage", state=State.FAILED)
    bridge.store.add("triage")
    bridge.store.add()
    page = await (await bridge.get("/v1/runs?state=failed&crew=triage")).json()
    assert [run["run_id"] for run in page["runs"]] == [run_id(1)]
    filters = bridge.store.filters[0]
    assert (filters.limit, filters.source, filters.crews) == (50, None, None)


async def test_every_search_reaches_the_store(bridge: Bridge) -> None:
    query = "idempotency_key=k&kickoff_id=e&correlation_id=c&meta.order=42&meta.a.b=x&error=lost"
    times = "since=2026-11-24T08:00:00Z&until=2026-11-24T09:00:00.5%2B01:00"
    assert (await bridge.get(f"/v1/runs?{query}&{times}")).status == 200
    [asked] = bridge.store.filters
    assert (asked.idempotency_key, asked.kickoff_id, asked.correlation_id) == ("k", "e", "c")
    assert (asked.meta, asked.error) == ({"order": "42", "a.b": "x"}, "lost")
    assert (asked.since, asked.until) == (1_795_507_200.0, 1_795_507_200.5)


async def test_the_beginning_of_an_id_names_the_only_run_that_has_it(bridge: Bridge) -> None:
    for _ in range(10):
        bridge.store.add()
    shown = await (await bridge.get(f"/v1/runs/{run_id(10)[:-1]}")).json()
    assert shown["run_id"] == run_id(10)
    await problem(await bridge.get("/v1/runs/0"), 409, "ambiguous_run_id")
    await problem(await bridge.get("/v1/runs/7"), 404, "unknown_run")
    await problem(await bridge.get("/v1/runs/0-"), 404, "unknown_run")


async def test_runs_of_others_do_not_make_an_id_ambiguous(bridge: Bridge) -> None:
    bridge.store.add()
    bridge.store.add(source="client/another")
    shown = await (await bridge.get("/v1/runs/0", "submitter")).json()
    assert shown["run_id"] == run_id(1)


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("state=gone", "state"),
        ("since=yesterday", "since"),
        ("until=2026-11-24T08:00:00", "until"),
        ("meta.=x", "meta."),
        ("meta.order=", "meta.order"),
        ("kickoff_id=a%00", "kickoff_id"),
        ("idempotency_key=", "idempotency_key"),
        ("state=", "state"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=", "limit"),
        ("cursor=abc", "cursor"),
        ("cursor=", "cursor"),
        ("crew=", "crew"),
        ("crew=a%00b", "crew"),
        ("crew=0.5", "crew"),
        ("stat=failed", "stat"),
        ("state=failed&state=running", "state"),
    ],
)
async def test_an_invalid_parameter_is_named(bridge: Bridge, query: str, name: str) -> None:
    shown = await problem(await bridge.get(f"/v1/runs?{query}"), 422, "invalid_request")
    assert shown["field"] == name
    assert not bridge.store.filters


@pytest.mark.parametrize("path", ["/v1/runs", f"/v1/runs/{run_id(1)}"])
async def test_an_unavailable_store_is_503_with_retry_after(bridge: Bridge, path: str) -> None:
    bridge.store.fail = STORE_AWAY
    response = await bridge.get(path)
    shown = await problem(response, 503, "service_unavailable")
    assert response.headers["Retry-After"] == "5"
    assert "secret" not in str(shown)
