"""A flow asks through a signed webhook and accepts its answer at the callback URL, once."""

import hashlib
import hmac
from typing import Any

import pytest

from bridge.sandbox import SandboxSettings

from .conftest import Receiver, SandboxClient, Start


async def asking(start: Start, receiver: Receiver, **settings: Any) -> tuple[SandboxClient, str]:
    hitl = {"kind": "flow", "human_questions": 1, "flow_hitl_url": f"{receiver.url}/hitl", "flow_hitl_secret": "shh"}
    sandbox_client = await start(**{**hitl, **settings})
    kickoff_id = await sandbox_client.kickoff()
    await sandbox_client.later(1)
    return sandbox_client, kickoff_id


def digest(timestamp: str, raw: bytes, key: bytes = b"shh") -> str:
    return "sha256=" + hmac.new(key, f"{timestamp}.".encode() + raw, hashlib.sha256).hexdigest()


async def test_the_question_is_flat_and_signed(start: Start, receiver: Receiver) -> None:
    sandbox_client, kickoff_id = await asking(start, receiver)
    delivery = await receiver.one()
    assert set(delivery.body) == {
        "event_type", "id", "status", "flow_id", "flow_class", "method_name", "message", "output", "emit", "state",
        "metadata", "created_at", "callback_url", "response_token", "deployment_id", "deployment_name",
        "assigned_to_email", "assigned_at",
    }  # fmt: skip
    assert (delivery.body["flow_id"], delivery.body["emit"]) == (kickoff_id, ["approved", "rejected"])
    assert delivery.body["callback_url"].startswith(sandbox_client.url)
    assert delivery.body["callback_url"].endswith(f"?token={delivery.body['response_token']}")
    timestamp = delivery.headers["X-Crewai-Timestamp"]
    assert int(timestamp) == int(sandbox_client.clock.moment)
    assert delivery.headers["X-Crewai-Signature"] == digest(timestamp, delivery.raw)


async def test_the_question_names_the_state_id_that_the_kickoff_has_set(start: Start, receiver: Receiver) -> None:
    own = "0a3f7f0e-55c1-4f4e-9a0d-6a8c1f2b3c4d"
    hitl = {"kind": "flow", "human_questions": 1, "flow_hitl_url": f"{receiver.url}/hitl"}
    sandbox_client = await start(**hitl)
    kickoff_id = await sandbox_client.kickoff(id=own)
    await sandbox_client.later(1)
    assert (await receiver.one()).body["flow_id"] == own
    assert (await sandbox_client.status(kickoff_id))["flow_id"] == own


async def test_by_setting_it_is_nested_with_the_documented_headers(start: Start, receiver: Receiver) -> None:
    await asking(start, receiver, flow_hitl_shape="nested")
    delivery = await receiver.one()
    assert set(delivery.body) == {"event", "request", "deployment", "callback_url", "assigned_to_email"}
    assert delivery.body["request"]["emit_options"] == ["approved", "rejected"]
    assert delivery.headers["X-Signature"] == digest(delivery.headers["X-Timestamp"], delivery.raw)


@pytest.mark.parametrize(
    ("how", "key"),
    [("text", b"whsec_00ff"), ("hex", b"\x00\xff")],
)
async def test_the_key_is_the_whole_secret_or_its_hex(start: Start, receiver: Receiver, how: str, key: bytes) -> None:
    await asking(start, receiver, flow_hitl_secret="whsec_00ff", flow_hitl_key=how)
    delivery = await receiver.one()
    assert delivery.headers["X-Crewai-Signature"] == digest(delivery.headers["X-Crewai-Timestamp"], delivery.raw, key)


@pytest.mark.parametrize("secret", ["whsec_shh", "whsec_"])
def test_a_secret_that_is_read_as_hex_must_be_hex(secret: str) -> None:
    with pytest.raises(ValueError, match="flow_hitl_secret"):
        SandboxSettings(flow_hitl_secret=secret, flow_hitl_key="hex")


async def test_a_waiting_flow_is_paused_names_itself_and_has_no_result(start: Start, receiver: Receiver) -> None:
    sandbox_client, kickoff_id = await asking(start, receiver)
    sandbox_client.clock.forward(3600)
    status = await sandbox_client.status(kickoff_id)
    assert (status["state"], status["status"]) == ("PAUSED", "awaiting_human_feedback")
    assert (status["flow_id"], status["result"]) == (kickoff_id, None)


async def test_by_setting_a_waiting_flow_reads_running(start: Start, receiver: Receiver) -> None:
    """As with a flow that has its own provider of feedback: nothing shows that it waits."""
    sandbox_client, kickoff_id = await asking(start, receiver, human_status="running")
    status = await sandbox_client.status(kickoff_id)
    assert status["state"] == "RUNNING"
    assert "flow_id" not in status


async def test_an_answer_without_another_token_resumes_the_flow_once(start: Start, receiver: Receiver) -> None:
    sandbox_client, kickoff_id = await asking(start, receiver)
    body = (await receiver.one()).body
    path = body["callback_url"].removeprefix(sandbox_client.url)
    answer = {"feedback": "approved", "source": "test"}
    codes = [(await sandbox_client.refusal("POST", path, json=answer, headers={}))[0] for _ in range(2)]
    assert codes == [200, 404]
    sandbox_client.clock.forward(1)
    assert await sandbox_client.states(kickoff_id) == ["SUCCESS"]
    notes = (await sandbox_client.ledger())["flow_responses"]
    assert [(note["request_id"], note["body"], note["answered"]) for note in notes] == [
        (body["id"], answer, 200),
        (body["id"], answer, 404),
    ]


async def test_invalid_answers_change_nothing(start: Start, receiver: Receiver) -> None:
    sandbox_client, kickoff_id = await asking(start, receiver)
    url = (await receiver.one()).body["callback_url"].removeprefix(sandbox_client.url)
    path, _, _ = url.partition("?")
    good = {"feedback": "approved"}
    assert (await sandbox_client.refusal("POST", f"{path}?token=guess", json=good))[0] == 401
    assert (await sandbox_client.refusal("POST", path, json=good))[0] == 401
    assert (await sandbox_client.refusal("POST", url, json={"feedback": " "}))[0] == 422
    assert (await sandbox_client.refusal("POST", url, data=b"{"))[0] == 422
    assert (await sandbox_client.refusal("POST", "/human_feedback_requests/x/respond", json=good))[0] == 404
    assert (await sandbox_client.status(kickoff_id))["flow_id"] == kickoff_id


async def test_a_flow_has_no_resume(start: Start, receiver: Receiver) -> None:
    sandbox_client, kickoff_id = await asking(start, receiver)
    (waiting,) = (await sandbox_client.ledger())["waiting"]
    body = {"executionId": kickoff_id, "taskId": waiting["task_id"], "humanFeedback": "Approved."}
    assert await sandbox_client.refusal("POST", "/resume", json=body) == (404, {"detail": "Not Found"})
    assert (await sandbox_client.ledger())["resumes"][0]["effect"] == "no_effect"


async def test_the_callback_is_not_for_crews(start: Start) -> None:
    sandbox_client = await start(human_questions=1)
    await sandbox_client.kickoff()
    sandbox_client.clock.forward(1)
    (waiting,) = (await sandbox_client.ledger())["waiting"]
    path = f"/human_feedback_requests/{waiting['task_id']}/respond"
    assert (await sandbox_client.refusal("POST", path, json={"feedback": "yes"}))[0] == 404


async def test_the_stream_continues_after_an_answer(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(kind="flow", human_questions=1)
    events = {"events": ["flow_started", "flow_finished"], "url": f"{receiver.url}/stream", "realtime": True}
    await sandbox_client.kickoff_with({"webhooks": events})
    (waiting,) = (await sandbox_client.later(1))["waiting"]
    path = waiting["callback_url"].removeprefix(sandbox_client.url)
    assert (await sandbox_client.refusal("POST", path, json={"feedback": "rejected"}))[0] == 200
    await sandbox_client.later(1)
    types = [delivery.body["events"][0]["type"] for delivery in await receiver.take(3)]
    assert types == ["flow_started", "flow_started", "flow_finished"]


@pytest.mark.parametrize("public_url", ["https://crew.example.com", "https://crew.example.com/"])
async def test_the_callback_url_can_be_public(start: Start, receiver: Receiver, public_url: str) -> None:
    await asking(start, receiver, public_url=public_url)
    callback = (await receiver.one()).body["callback_url"]
    assert callback.startswith("https://crew.example.com/human_feedback_requests/")
