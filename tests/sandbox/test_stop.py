"""POST /stop ends an execution, where the setting offers it; a quota refuses what comes after it."""

from typing import Any

import pytest

from .conftest import START, Receiver, Start


async def test_without_the_setting_there_is_no_stop(start: Start) -> None:
    talk = await start()
    kickoff_id = await talk.kickoff()
    assert await talk.refusal("POST", f"/stop/{kickoff_id}") == (404, {"detail": "Not Found"})
    assert await talk.states(kickoff_id) == ["STARTED"]


async def test_a_stopped_execution_reads_revoked_from_then_on(start: Start) -> None:
    talk = await start(stop=True)
    kickoff_id = await talk.kickoff()
    talk.clock.forward(1)
    answer = await talk.refusal("POST", f"/stop/{kickoff_id}")
    assert answer == (200, {"status": "stopped", "kickoffId": kickoff_id})
    status = await talk.status(kickoff_id)
    assert (status["state"], status["status"], status["result"]) == ("REVOKED", "Task was revoked", None)
    ledger = await talk.ledger()
    assert ledger["kickoffs"][0]["ended_at"] == START + 1
    assert ledger["stops"] == [{"received_at": START + 1, "kickoff_id": kickoff_id, "answered": 200}]


@pytest.mark.parametrize(("outcome", "state"), [("success", "SUCCESS"), ("failure", "FAILED"), ("revoked", "REVOKED")])
async def test_what_has_ended_cannot_be_stopped(start: Start, outcome: str, state: str) -> None:
    talk = await start(stop=True)
    kickoff_id = await talk.kickoff(sandbox_outcome=outcome)
    talk.clock.forward(2)
    assert await talk.refusal("POST", f"/stop/{kickoff_id}") == (
        400,
        {"detail": f"Cannot stop execution. Current state: {state}"},
    )
    assert await talk.states(kickoff_id) == [state]


async def test_what_waits_for_a_human_can_be_stopped(start: Start) -> None:
    talk = await start(stop=True, human_questions=1)
    kickoff_id = await talk.kickoff()
    talk.clock.forward(100)
    assert (await talk.refusal("POST", f"/stop/{kickoff_id}"))[0] == 200
    assert await talk.states(kickoff_id) == ["REVOKED"]
    assert (await talk.ledger())["waiting"] == []


async def test_an_unknown_id_and_a_wrong_token_are_refused(start: Start) -> None:
    talk = await start(stop=True)
    assert (await talk.refusal("POST", "/stop/unknown"))[0] == 404
    assert (await talk.refusal("POST", "/stop/unknown", headers={}))[0] == 401


async def test_nothing_is_sent_of_what_would_have_come_after_the_stop(start: Start, receiver: Receiver) -> None:
    talk = await start(stop=True)
    hooks = {"taskWebhookUrl": f"{receiver.url}/task", "crewWebhookUrl": f"{receiver.url}/crew"}
    kickoff_id = await talk.kickoff_with(hooks)
    assert await talk.sent(1) == ["task"]
    await talk.refusal("POST", f"/stop/{kickoff_id}")
    assert await talk.sent(1000) == ["task"]


async def test_after_its_quota_a_deployment_refuses_with_a_text(start: Start) -> None:
    talk = await start(quota=2)
    await talk.refusal("POST", "/kickoff", json={"inputs": {}})
    assert await talk.kickoff()
    assert await talk.kickoff()
    body: Any = {"inputs": {"topic": "x"}}
    code, answer = await talk.refusal("POST", "/kickoff", json=body)
    assert code == 403
    assert "monthly execution limit" in answer["detail"]
    assert (await talk.ledger())["started"] == 2
