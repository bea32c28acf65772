"""Requests are stored once; refused messages go to the dead-letter queue through the store."""

import json
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from bridge.core.callback_url import CallbackRules
from bridge.core.crew.responses import Failed, StatusResponse, Succeeded
from bridge.core.delivery.events import run_document
from bridge.core.delivery.model import Channel
from bridge.core.errors import RequestRefused
from bridge.core.runs.model import Envelope, RestoreFrom, Run, State
from bridge.core.runs.request import retry
from bridge.ports.inbound import RefusedMessage
from tests.component.steps.conftest import Bench
from tests.fakes import a_request, run_id


async def test_an_accepted_request_is_durable_and_signals_its_crew(bench: Bench):
    accepted = await bench.accept(a_request(), Envelope("queue"))
    assert (accepted.run.state, accepted.run.run_id, accepted.replayed) == (State.ACCEPTED, run_id(1), False)
    assert await bench.store.load(run_id(1)) == accepted.run
    assert bench.notified("kickoff-research")


async def test_the_acceptance_of_a_run_is_logged_once_with_what_its_sender_knows(bench: Bench):
    traced = Envelope("client/shop", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    with capture_logs() as logs:
        for _ in range(2):
            await bench.accept(a_request(idempotency_key="order-42"), traced)
        await bench.accept(a_request(), Envelope("queue"))
    first, second = [
        {name: value for name, value in line.items() if name != "log_level"}
        for line in logs
        if line["event"] == "run_accepted"
    ]
    assert first == {
        "event": "run_accepted",
        "run_id": run_id(1),
        "crew": "research",
        "idempotency_key": "order-42",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "by": "client/shop",
    }
    assert second.keys() == {"event", "run_id", "crew", "by"}


async def test_a_repeated_request_returns_the_first_run(bench: Bench):
    first, second = [await bench.accept(a_request(idempotency_key="k"), Envelope("queue")) for _ in range(2)]
    assert (second.run, second.replayed) == (replace(first.run, history=()), True)


async def test_a_repeated_request_returns_its_run_even_if_it_would_be_refused_now(bench: Bench):
    """The sender of a message that was stored but not acked before a crash must not receive a refusal."""
    url = "https://shop.example/done"
    command = a_request(idempotency_key="k", callback_url=url)
    first = await bench.accept(command, Envelope("queue"))
    bench.callbacks = CallbackRules(allow=["https://other.example"])
    strict = bench.accept
    again = await strict(command, Envelope("queue"))
    assert (again.run, again.replayed) == (first.run, True)
    for other in (a_request(idempotency_key="k", callback_url=url, inputs={"topic": "x"}), a_request(callback_url=url)):
        with pytest.raises(RequestRefused) as caught:
            await strict(other, Envelope("queue"))
        assert caught.value.code == "callback_not_allowed"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"crew": "nobody"}, "unknown_crew"),
        ({"callback_url": "http://shop.example"}, "callback_not_allowed"),
        ({"callback_url": "ftp://shop.example"}, "callback_not_allowed"),
    ],
)
async def test_a_forbidden_request_is_refused_and_not_stored(bench: Bench, change: dict[str, str], code: str):
    spy = bench.spy()
    with pytest.raises(RequestRefused) as caught:
        await bench.accept(a_request(**change), Envelope("queue"))
    assert caught.value.code == code
    assert spy.calls == []
    assert not bench.notified("kickoff-research")


async def test_an_allowed_callback_is_kept(bench: Bench):
    run = (await bench.accept(a_request(callback_url="https://shop.example/17"), Envelope("queue"))).run
    assert (await bench.now(run)).request.callback_url == "https://shop.example/17"


REFUSED = RefusedMessage(
    body=b"\xff{", content_type="text/plain", headers={"n": 1, "x-bridge-reason": "forged"},
    code="invalid_json", detail="not UTF-8", crew="research", correlation_id="c-1",
)  # fmt: skip


async def test_a_refused_message_goes_to_the_dead_letter_queue_unchanged(bench: Bench):
    await bench.refuse(REFUSED)
    [dead] = await bench.publish.claim(9)
    assert (dead.destination.channel, dead.destination.target) == (Channel.DEAD_LETTER, "kickoff.dead")
    assert (dead.event.body, dead.event.content_type) == (b"\xff{", "text/plain")
    assert dead.event.headers == {"n": 1, "x-bridge-reason": "invalid_json", "x-bridge-detail": "not UTF-8"}
    assert bench.notified("deliver-broker")


async def test_the_sender_is_notified_through_its_reply_queue(bench: Bench):
    await bench.refuse(RefusedMessage(b"{", None, {}, "invalid_json", "not JSON", "triage", "reply.shop", "c-1", "k-1"))
    found = {delivery.destination.target: delivery.event for delivery in await bench.publish.claim(9)}
    assert set(found) == {"kickoff.dead", "reply.shop"}
    assert found["kickoff.dead"].content_type == ""
    notice = json.loads(found["reply.shop"].body)
    data = {"code": "invalid_json", "message": "not JSON", "crew": "triage", "idempotency_key": "k-1"}
    assert (notice["type"], notice["data"]) == ("request.rejected", data)
    assert found["reply.shop"].correlation_id == "c-1"


# Continuing a flow --------------------------------------------------------------------------------------------------

OWN = "0a3f7f0e-55c1-4f4e-9a0d-6a8c1f2b3c4d"
QUEUE = Envelope("queue")


async def ended_flow(bench: Bench, status: StatusResponse | None = None, **request: Any) -> Run:
    bench.be_a_flow()
    run = await bench.started(**request)
    bench.api.status_responses = [status or Succeeded("done")]
    bench.clock.forward(60)
    await bench.round(bench.poll)
    return await bench.now(run)


@pytest.mark.parametrize("name", ["run_id", "kickoff_id"])
@pytest.mark.parametrize("inputs", [{"topic": "peat"}, {"topic": "peat", "id": OWN}])
async def test_a_flow_continues_from_the_state_of_an_earlier_run(bench: Bench, name: str, inputs: dict[str, str]):
    earlier = await ended_flow(bench, inputs=inputs)
    named = RestoreFrom(**{name: earlier.run_id if name == "run_id" else earlier.kickoff_id})
    run = (await bench.accept(a_request(inputs={"topic": "bog"}, restore_from=named), QUEUE)).run
    await bench.round(bench.kickoff)
    assert bench.api.bodies[-1]["restoreFromStateId"] == inputs.get("id", earlier.kickoff_id)
    assert bench.api.bodies[-1]["inputs"] == {"topic": "bog"}
    assert run_document(await bench.now(run))["restore_from"] == {name: getattr(earlier, name)}


async def test_a_retry_continues_from_the_same_state_even_if_the_earlier_run_is_deleted(bench: Bench):
    earlier = await ended_flow(bench)
    deleted_before = bench.clock() + 1
    bench.clock.forward(60)
    failed = await ended_flow(bench, Failed("no"), inputs={"topic": "bog"}, restore_from=RestoreFrom(earlier.run_id))
    await bench.deliver()
    assert await bench.store.cluster.delete_ended_runs(deleted_before, 9) == 1
    await bench.accept(*retry(failed, None, QUEUE))
    await bench.round(bench.kickoff)
    assert [body.get("restoreFromStateId") for body in bench.api.bodies] == [None, *[earlier.kickoff_id] * 2]


async def test_a_run_that_did_not_succeed_is_not_continued(bench: Bench):
    """Its flow may have saved nothing, and would run from defaults without a sign of it."""
    earlier = await ended_flow(bench, Failed("no"))
    with pytest.raises(RequestRefused, match="failed, not succeeded"):
        await bench.accept(a_request(restore_from=RestoreFrom(earlier.run_id)), QUEUE)


async def test_the_run_of_another_sender_is_not_continued(bench: Bench):
    earlier = await ended_flow(bench)
    asked = a_request(restore_from=RestoreFrom(earlier.run_id))
    with pytest.raises(RequestRefused, match="no run of this flow"):
        await bench.accept(asked, Envelope("client/other"))
    await bench.accept(asked, Envelope("client/operator", sees_all=True))


async def test_a_crew_continues_from_no_run(bench: Bench):
    with pytest.raises(RequestRefused, match="only a flow"):
        await bench.accept(a_request(restore_from=RestoreFrom("r-1")), QUEUE)


async def test_an_input_id_of_a_flow_is_checked_and_causes_a_warning(bench: Bench):
    bench.be_a_flow()
    with pytest.raises(RequestRefused, match="UUID"):
        await bench.accept(a_request(inputs={"id": "test 1"}), QUEUE)
    asked = a_request(inputs={"id": OWN}, idempotency_key="k")
    with capture_logs() as logs:
        first, again = [await bench.accept(asked, QUEUE) for _ in range(2)]
    assert [warning.code for warning in first.warnings] == ["inputs_id"]
    assert (again.replayed, again.warnings) == (True, first.warnings)
    assert [entry["run_id"] for entry in logs if entry["event"] == "inputs_id_sent"] == [first.run.run_id]


async def test_the_input_id_of_a_crew_is_an_ordinary_input(bench: Bench):
    accepted = await bench.accept(a_request(inputs={"id": "order 1"}), QUEUE)
    assert accepted.warnings == ()
