"""POST /stop ends an execution if enabled; a quota refuses later kickoffs."""

from typing import Any

import pytest

from .conftest import START, Receiver, Start


async def test_without_the_setting_there_is_no_stop(start: Start) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff()
    assert await sandbox_client.refusal("POST", f"/stop/{kickoff_id}") == (404, {"detail": "Not Found"})
    assert await sandbox_client.states(kickoff_id) == ["STARTED"]


async def test_a_stopped_execution_is_revoked_from_then_on(start: Start) -> None:
    sandbox_client = await start(stop=True)
    kickoff_id = await sandbox_client.kickoff()
    sandbox_client.clock.forward(1)
    response = await sandbox_client.refusal("POST", f"/stop/{kickoff_id}")
    assert response == (200, {"status": "stopped", "kickoffId": kickoff_id})
    status = await sandbox_client.status(kickoff_id)
    assert (status["state"], status["status"], status["result"]) == ("REVOKED", "Task was revoked", None)
    ledger = await sandbox_client.ledger()
    assert ledger["kickoffs"][0]["ended_at"] == START + 1
    assert ledger["stops"] == [{"received_at": START + 1, "kickoff_id": kickoff_id, "answered": 200}]


@pytest.mark.parametrize(("outcome", "state"), [("success", "SUCCESS"), ("failure", "FAILED"), ("revoked", "REVOKED")])
async def test_an_ended_execution_cannot_be_stopped(start: Start, outcome: str, state: str) -> None:
    sandbox_client = await start(stop=True)
    kickoff_id = await sandbox_client.kickoff(sandbox_outcome=outcome)
    sandbox_client.clock.forward(2)
    assert await sandbox_client.refusal("POST", f"/stop/{kickoff_id}") == (
        400,
        {"detail": f"Cannot stop execution. Current state: {state}"},
    )
    assert await sandbox_client.states(kickoff_id) == [state]


async def test_an_execution_that_waits_for_a_human_can_be_stopped(start: Start) -> None:
    sandbox_client = await start(stop=True, human_questions=1)
    kickoff_id = await sandbox_client.kickoff()
    sandbox_client.clock.forward(100)
    assert (await sandbox_client.refusal("POST", f"/stop/{kickoff_id}"))[0] == 200
    assert await sandbox_client.states(kickoff_id) == ["REVOKED"]
    assert (await sandbox_client.ledger())["waiting"] == []


async def test_an_unknown_id_and_a_wrong_token_are_refused(start: Start) -> None:
    sandbox_client = await start(stop=True)
    assert (await sandbox_client.refusal("POST", "/stop/unknown"))[0] == 404
    assert (await sandbox_client.refusal("POST", "/stop/unknown", headers={}))[0] == 401


async def test_no_webhook_is_sent_after_the_stop(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(stop=True)
    hooks = {"taskWebhookUrl": f"{receiver.url}/task", "crewWebhookUrl": f"{receiver.url}/crew"}
    kickoff_id = await sandbox_client.kickoff_with(hooks)
    assert await sandbox_client.sent(1) == ["task"]
    await sandbox_client.refusal("POST", f"/stop/{kickoff_id}")
    assert await sandbox_client.sent(1000) == ["task"]


async def test_after_its_quota_a_deployment_refuses_with_a_text(start: Start) -> None:
    sandbox_client = await start(quota=2)
    await sandbox_client.refusal("POST", "/kickoff", json={"inputs": {}})
    assert await sandbox_client.kickoff()
    assert await sandbox_client.kickoff()
    body: Any = {"inputs": {"topic": "x"}}
    code, response = await sandbox_client.refusal("POST", "/kickoff", json=body)
    assert code == 403
    assert "monthly execution limit" in response["detail"]
    assert (await sandbox_client.ledger())["started"] == 2
