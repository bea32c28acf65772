"""Submitting runs over real HTTP: the response, keys, replays, and waiting for the end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import quote

import aiohttp
import pytest

from bridge.adapters.http.long_poll import LongPollOptions
from bridge.core.errors import RequestRefused
from bridge.core.runs.model import RequestWarning, RestoreFrom, State
from tests.http_client import BODY, STORE_AWAY, Bridge, bearer, problem, run_id, serving
from tests.patience import PATIENCE

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with serving(long_polls=LongPollOptions(interval=0.005, slots=2)) as served:
        yield served


async def test_an_accepted_run_has_its_location(bridge: Bridge) -> None:
    """202 has the run's id and location, and is not cacheable."""
    response = await bridge.submit(Idempotency_Key="order-1")
    assert response.status == 202
    assert response.headers["Location"] == f"/v1/runs/{run_id(1)}"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Idempotency-Replayed" not in response.headers
    assert await response.json() == {
        "run_id": run_id(1),
        "state": "accepted",
        "crew": "research",
        "idempotency_key": "order-1",
        "accepted_at": "2023-11-14T22:13:20.000Z",
    }


async def test_each_request_is_counted_by_its_outcome(bridge: Bridge) -> None:
    """A request that is not authenticated, not permitted, or to be repeated later is not counted."""
    for topic in ("otters", "otters", "bogs"):
        await bridge.submit({"crew": "research", "inputs": {"topic": topic}}, Idempotency_Key="order-1")
    await bridge.submit({"crew": 7})
    await bridge.submit(name="reader")
    bridge.accept.fail = STORE_AWAY
    await bridge.submit()
    assert bridge.counted == [
        ("http", "accepted"), ("http", "replayed"), ("http", "idempotency_conflict"), ("http", "invalid_request"),
    ]  # fmt: skip


async def test_the_location_contains_the_path_prefix_of_the_public_url() -> None:
    async with serving(base_path="/bridge") as bridge:
        assert (await bridge.submit()).headers["Location"] == f"/bridge/v1/runs/{run_id(1)}"


async def test_the_sender_is_the_client(bridge: Bridge) -> None:
    """Keys and visibility are scoped by the sender of a request."""
    await bridge.submit(traceparent=TRACE)
    request, envelope = bridge.accept.seen[0]
    assert request.inputs == {"topic": "otters"}
    assert (envelope.source, envelope.traceparent) == ("client/submitter", TRACE)


async def test_warnings_about_an_accepted_request_are_returned(bridge: Bridge) -> None:
    bridge.accept.warnings = (RequestWarning("inputs_id", "the record of an earlier execution is overwritten"),)
    response = await (await bridge.submit()).json()
    assert response["warnings"] == [
        {"code": "inputs_id", "message": "the record of an earlier execution is overwritten"}
    ]


@pytest.mark.parametrize(("name", "sees_all"), [("submitter", False), ("operator", True)])
async def test_the_sender_continues_only_runs_that_it_may_see(bridge: Bridge, name: str, sees_all: bool) -> None:
    await bridge.submit({"crew": "research", "restore_from": {"kickoff_id": "k-1"}}, name)
    request, envelope = bridge.accept.seen[0]
    assert (request.restore_from, envelope.sees_all) == (RestoreFrom(kickoff_id="k-1"), sees_all)


async def test_a_malformed_trace_is_dropped(bridge: Bridge) -> None:
    """An invalid trace is a fault of the tracer; the run starts without it."""
    await bridge.submit(traceparent=TRACE.upper())
    assert bridge.accept.seen[0][1].traceparent is None


async def test_a_replay_has_the_original_response(bridge: Bridge) -> None:
    """The same key and content: the same body, although the run has progressed, and a header that marks the replay."""
    first = await bridge.submit(Idempotency_Key="order-1")
    bridge.store.ends_after = 1
    await bridge.store.load(run_id(1))
    again = await bridge.submit(Idempotency_Key='"order-1"')
    assert again.status == 202
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await again.read() == await first.read()


async def test_a_key_with_other_content_is_a_conflict(bridge: Bridge) -> None:
    await bridge.submit(Idempotency_Key="order-1")
    response = await bridge.submit({**BODY, "inputs": {}}, Idempotency_Key="order-1")
    document = await problem(response, 422, "idempotency_conflict")
    assert document["errors"] == [{"pointer": "/idempotency_key", "detail": "other content"}]


async def test_a_key_in_header_and_body_must_be_equal(bridge: Bridge) -> None:
    """Which of two keys was intended cannot be guessed."""
    body = {**BODY, "idempotency_key": "order-1"}
    document = await problem(await bridge.submit(body, Idempotency_Key="order-2"), 422, "invalid_request")
    assert document["field"] == "idempotency_key"
    assert (await bridge.submit(body, Idempotency_Key='"order-1"')).status == 202


EVENT = {"specversion": "1.0", "id": "7 é", "source": "/orders", "type": "order.placed"}


async def submit_event(bridge: Bridge, mode: str, **headers: str) -> aiohttp.ClientResponse:
    """Submit the request as the `data` of a CloudEvent."""
    if mode == "structured":
        document = {**EVENT, "traceparent": TRACE, "data": BODY}
        return await bridge.submit(document, **{"Content-Type": "application/cloudevents+json", **headers})
    attributes = {f"ce-{name}": quote(value, safe="/") for name, value in {**EVENT, "traceparent": TRACE}.items()}
    return await bridge.submit(BODY, **{**attributes, **headers})


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_a_cloudevent_is_accepted_with_its_source_and_id_as_the_key(bridge: Bridge, mode: str) -> None:
    """The same event sent twice, whatever the header Idempotency-Key, is one execution."""
    first = await submit_event(bridge, mode)
    again = await submit_event(bridge, mode, **{"Idempotency-Key": "generated-for-each-attempt"})
    assert (first.status, again.status) == (202, 202)
    assert again.headers["Idempotency-Replayed"] == "true"
    request, envelope = bridge.accept.seen[0]
    assert (request.crew, request.inputs, request.idempotency_key) == ("research", BODY["inputs"], "/orders 7 é")
    assert envelope.traceparent == TRACE


@pytest.mark.parametrize("missing", ["id", "source", "type"])
async def test_an_incomplete_cloudevent_is_refused(bridge: Bridge, missing: str) -> None:
    attributes = {f"ce-{name}": quote(value) for name, value in EVENT.items() if name != missing}
    document = await problem(await bridge.submit(BODY, **attributes), 422, "invalid_request")
    assert f"the attribute '{missing}' is missing" in document["detail"]


async def test_unbalanced_quotes_are_refused(bridge: Bridge) -> None:
    document = await problem(await bridge.submit(Idempotency_Key='"order'), 422, "invalid_request")
    assert document["field"] == "Idempotency-Key"


async def test_two_keys_are_refused(bridge: Bridge) -> None:
    response = await bridge.http.post(
        bridge.url("/v1/runs"),
        json=BODY,
        headers=[
            *bearer("submitter").items(),
            ("Idempotency-Key", "a"),
            ("Idempotency-Key", "b"),
        ],
    )
    await problem(response, 422, "invalid_request")


async def test_a_waiting_client_receives_the_end(bridge: Bridge) -> None:
    """`Prefer: wait` answers 200 with the whole run as soon as it has ended."""
    bridge.store.ends_after = 3
    response = await bridge.submit(Prefer="respond-async, wait=30")
    assert response.status == 200
    assert response.headers["Preference-Applied"] == "wait"
    assert response.headers["Location"] == f"/v1/runs/{run_id(1)}"
    document = await response.json()
    assert (document["state"], document["result"], document["deliveries"]) == ("succeeded", "done", [])


async def test_a_wait_without_an_end_is_202(bridge: Bridge) -> None:
    response = await bridge.submit(Prefer="wait=1")
    assert response.status == 202
    assert (await response.json())["state"] == "accepted"
    assert bridge.store.polls > 1


@pytest.mark.parametrize("prefer", ["wait", "wait=0", "wait=-1", "wait=soon", "return=minimal"])
async def test_an_invalid_preference_is_ignored(bridge: Bridge, prefer: str) -> None:
    response = await bridge.submit(Prefer=prefer)
    assert response.status == 202
    assert "Preference-Applied" not in response.headers
    assert bridge.store.polls == 0


async def test_an_outage_of_the_store_after_the_accept_is_202(bridge: Bridge) -> None:
    """The run is stored; an error now would make the client believe that it is not."""
    waiting = asyncio.create_task(bridge.submit(Prefer="wait=1"))
    await bridge.store.poll_finished.wait()
    bridge.store.fail = STORE_AWAY
    assert (await waiting).status == 202


async def test_a_final_run_without_its_deliveries_is_202(bridge: Bridge) -> None:
    """The store became unavailable between reading the run and reading the deliveries."""
    await bridge.submit(Idempotency_Key="order-1")
    bridge.store.runs[run_id(1)] = replace(bridge.store.runs[run_id(1)], state=State.SUCCEEDED)
    bridge.store.fail = STORE_AWAY
    assert (await bridge.submit(Idempotency_Key="order-1", Prefer="wait=5")).status == 202


async def test_waiting_ends_when_the_server_stops(bridge: Bridge) -> None:
    """A stop does not take as long as the longest wait."""
    waiting = asyncio.create_task(bridge.submit(Prefer="wait=60"))
    await bridge.store.poll_finished.wait()
    bridge.servers[0].stop()
    async with asyncio.timeout(30):  # half of the requested wait
        assert (await waiting).status == 202


async def test_the_store_is_not_polled_for_a_disconnected_client() -> None:
    """Otherwise a client could disconnect and return, and leave another reader of the store behind each time."""
    async with serving(long_polls=LongPollOptions(interval=0.005, slots=1)) as bridge, asyncio.timeout(PATIENCE):
        gone = asyncio.create_task(bridge.submit(Prefer="wait=60"))
        await bridge.store.poll_finished.wait()
        gone.cancel()
        while "Preference-Applied" not in (await bridge.submit(Prefer="wait=1")).headers:
            pass  # the only slot is still occupied


async def test_too_many_waiting_clients_are_answered_at_once(bridge: Bridge) -> None:
    """Polling the store for hundreds of waiting clients would delay all."""
    retry = [asyncio.create_task(bridge.submit(name=name, Prefer="wait=60")) for name in ("submitter", "operator")]
    while len(bridge.accept.seen) < 2:
        await bridge.store.poll_finished.wait()
        bridge.store.poll_finished.clear()
    await bridge.store.poll_finished.wait()
    response = await bridge.submit(Prefer="wait=60")
    assert response.status == 202
    assert "Preference-Applied" not in response.headers
    bridge.servers[0].stop()
    assert [response.status for response in await asyncio.gather(*retry)] == [202, 202]


async def test_one_client_cannot_occupy_every_wait() -> None:
    """It may have half of those that the others do not have; it could have all 200, and no other client could wait."""
    async with serving(long_polls=LongPollOptions(interval=0.005, slots=4)) as bridge, asyncio.timeout(PATIENCE):
        first = [asyncio.create_task(bridge.submit(Prefer="wait=60")) for _ in range(2)]
        while len(bridge.accept.seen) < 2:
            await bridge.store.poll_finished.wait()
            bridge.store.poll_finished.clear()
        assert "Preference-Applied" not in (await bridge.submit(Prefer="wait=60")).headers
        assert "Preference-Applied" in (await bridge.submit(name="operator", Prefer="wait=1")).headers
        bridge.servers[0].stop()
        assert [response.status for response in await asyncio.gather(*first)] == [202, 202]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("unknown_crew", 404),
        ("missing_inputs", 422),
        ("callback_not_allowed", 422),
        ("reply_to_not_allowed", 422),
        ("unknown_run", 404),
        ("not_waiting", 409),
        ("too_large", 413),
        ("invalid_request", 422),
        ("invalid_json", 400),
        ("idempotency_conflict", 422),
    ],
)
async def test_every_refusal_has_its_status(bridge: Bridge, code: str, status: int) -> None:
    bridge.accept.fail = RequestRefused(code, "because", "meta.a/b")  # type: ignore[arg-type]
    document = await problem(await bridge.submit(), status, code)
    assert document["detail"] == "because"
    assert document["field"] == "meta.a/b"
    assert document["errors"] == [{"pointer": "/meta/a~1b", "detail": "because"}]
