"""POST /stop ends an execution, where the setting offers it; a quota refuses what comes after it."""

from typing import Any

import pytest

from .conftest import START, Receiver, Start


async def test_without_the_setting_there_is_no_stop(start: Start) -> None:
    human_input = await start()
    kickoff_id = await human_input.kickoff()
    assert await human_input.refusal("POST", f"/stop/{kickoff_id}") == (404, {"detail": "Not Found"})
    assert await human_input.states(kickoff_id) == ["STARTED"]


async def test_a_stopped_execution_reads_revoked_from_then_on(start: Start) -> None:
    human_input = await start(stop=True)
    kickoff_id = await human_input.kickoff()
    human_input.clock.forward(1)
    answer = await human_input.refusal("POST", f"/stop/{kickoff_id}")
    assert answer == (200, {"status": "stopped", "kickoffId": kickoff_id})
    status = await human_input.status(kickoff_id)
    assert (status["state"], status["status"], status["result"]) == ("REVOKED", "Task was revoked", None)
    ledger = await human_input.ledger()
    assert ledger["kickoffs"][0]["ended_at"] == START + 1
    assert ledger["stops"] == [{"received_at": START + 1, "kickoff_id": kickoff_id, "answered": 200}]


@pytest.mark.parametrize(("outcome", "state"), [("success", "SUCCESS"), ("failure", "FAILED"), ("revoked", "REVOKED")])
async def test_what_has_ended_cannot_be_stopped(start: Start, outcome: str, state: str) -> None:
    human_input = await start(stop=True)
    kickoff_id = await human_input.kickoff(sandbox_outcome=outcome)
    human_input.clock.forward(2)
    assert await human_input.refusal("POST", f"/stop/{kickoff_id}") == (
        400,
        {"detail": f"Cannot stop execution. Current state: {state}"},
    )
    assert await human_input.states(kickoff_id) == [state]


async def test_what_waits_for_a_human_can_be_stopped(start: Start) -> None:
    human_input = await start(stop=True, human_questions=1)
    kickoff_id = await human_input.kickoff()
    human_input.clock.forward(100)
    assert (await human_input.refusal("POST", f"/stop/{kickoff_id}"))[0] == 200
    assert await human_input.states(kickoff_id) == ["REVOKED"]
    assert (await human_input.ledger())["waiting"] == []


async def test_an_unknown_id_and_a_wrong_token_are_refused(start: Start) -> None:
    human_input = await start(stop=True)
    assert (await human_input.refusal("POST", "/stop/unknown"))[0] == 404
    assert (await human_input.refusal("POST", "/stop/unknown", headers={}))[0] == 401


async def test_nothing_is_sent_of_what_would_have_come_after_the_stop(start: Start, receiver: Receiver) -> None:
    human_input = await start(stop=True)
    hooks = {"taskWebhookUrl": f"{receiver.url}/task", "crewWebhookUrl": f"{receiver.url}/crew"}
    kickoff_id = await human_input.kickoff_with(hooks)
    assert await human_input.sent(1) == ["task"]
    await human_input.refusal("POST", f"/stop/{kickoff_id}")
    assert await human_input.sent(1000) == ["task"]


async def test_after_its_quota_a_deployment_refuses_with_a_text(start: Start) -> None:
    human_input = await start(quota=2)
    await human_input.refusal("POST", "/kickoff", json={"inputs": {}})
    assert await human_input.kickoff()
    assert await human_input.kickoff()
    body: Any = {"inputs": {"topic": "x"}}
    code, answer = await human_input.refusal("POST", "/kickoff", json=body)
    assert code == 403
    assert "monthly execution limit" in answer["detail"]
    assert (await human_input.ledger())["started"] == 2
