"""A crew waits for human input; only the right resume continues it."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from bridge.sandbox.resume import approves

from .conftest import START, HandClock, Receiver, SandboxClient, Start


async def question(sandbox_client: SandboxClient) -> str:
    """The id of the only open question."""
    (waiting,) = (await sandbox_client.ledger())["waiting"]
    task_id: str = waiting["task_id"]
    return task_id


async def resume(
    sandbox_client: SandboxClient, kickoff_id: str, task_id: str, feedback: str = "Approved.", **more: Any
) -> str:
    """Resume, and return the outcome."""
    body = {"executionId": kickoff_id, "taskId": task_id, "humanFeedback": feedback, **more}
    code, answer = await sandbox_client.refusal("POST", "/resume", json=body)
    assert code == 200
    assert list(answer) == ["kickoff_id"]
    assert answer["kickoff_id"] != kickoff_id
    effect: str = (await sandbox_client.ledger())["resumes"][-1]["effect"]
    return effect


async def test_a_waiting_crew_is_not_found_with_200(start: Start) -> None:
    sandbox_client = await start(human_questions=1)
    kickoff_id = await sandbox_client.kickoff()
    assert await sandbox_client.states(kickoff_id) == ["STARTED"]
    sandbox_client.clock.forward(1)
    assert await sandbox_client.status(kickoff_id) == await sandbox_client.status("unknown")
    sandbox_client.clock.forward(3600)
    assert await sandbox_client.states(kickoff_id) == ["NOT FOUND"]


async def test_by_setting_it_is_paused(start: Start) -> None:
    sandbox_client = await start(human_questions=1, human_status="paused")
    kickoff_id = await sandbox_client.kickoff()
    sandbox_client.clock.forward(1)
    status = await sandbox_client.status(kickoff_id)
    assert (status["state"], status["result"], status["progress"]["completed"]) == ("PAUSED", None, 1)


@pytest.mark.parametrize(("value", "waits"), [(1, True), ("1", True), (0, False), ("0", False)])
async def test_an_input_sets_the_questions_of_one_run(start: Start, value: Any, waits: bool) -> None:
    sandbox_client = await start(human_questions=0 if waits else 3)
    kickoff_id = await sandbox_client.kickoff(sandbox_human_questions=value)
    sandbox_client.clock.forward(2)
    assert await sandbox_client.states(kickoff_id) == (["NOT FOUND"] if waits else ["SUCCESS"])


async def test_the_human_input_webhook_contains_what_a_resume_needs(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(human_questions=1)
    kickoff_id = await sandbox_client.kickoff_with({"humanInputWebhookUrl": f"{receiver.url}/human"})
    await sandbox_client.later(1)
    body = (await receiver.one()).body
    assert set(body) == {"kickoff_id", "execution_id", "task_id", "task_output", "meta"}
    assert (body["kickoff_id"], body["execution_id"], body["meta"]) == (kickoff_id, kickoff_id, {"job": 1})
    assert body["task_id"] == await question(sandbox_client)


async def test_an_approval_continues_the_run_where_it_paused(start: Start) -> None:
    sandbox_client = await start(human_questions=1, run_time=parse_run_time("fixed:10"))
    kickoff_id = await sandbox_client.kickoff()
    sandbox_client.clock.forward(1000)
    assert await resume(sandbox_client, kickoff_id, await question(sandbox_client)) == "continued"
    assert await sandbox_client.states(kickoff_id) == ["RUNNING"]
    sandbox_client.clock.forward(5)
    assert await sandbox_client.states(kickoff_id) == ["SUCCESS"]
    assert (await sandbox_client.ledger())["kickoffs"][0]["ended_at"] == START + 1005


async def test_each_question_has_a_new_task_id(start: Start) -> None:
    sandbox_client = await start(human_questions=3)
    kickoff_id = await sandbox_client.kickoff()
    seen = []
    for _ in range(3):
        sandbox_client.clock.forward(100)
        seen.append(await question(sandbox_client))
        assert await resume(sandbox_client, kickoff_id, seen[-1]) == "continued"
    assert len(set(seen)) == 3
    sandbox_client.clock.forward(100)
    assert await sandbox_client.states(kickoff_id) == ["SUCCESS"]


async def test_any_other_text_repeats_the_task_and_asks_again(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(human_questions=1, run_time=parse_run_time("fixed:30"))
    again = {"humanInputWebhookUrl": f"{receiver.url}/human"}
    kickoff_id = await sandbox_client.kickoff_with(again)
    await sandbox_client.later(15)
    first = (await receiver.one()).body["task_id"]
    assert await resume(sandbox_client, kickoff_id, first, "Approved, but shorter", **again) == "asked_again"
    assert await sandbox_client.states(kickoff_id) == ["RUNNING"]
    await sandbox_client.later(5)
    second = (await receiver.one()).body["task_id"]
    assert second != first
    assert await resume(sandbox_client, kickoff_id, first) == "no_effect"
    assert await resume(sandbox_client, kickoff_id, second) == "continued"


@pytest.mark.parametrize(
    ("feedback", "holds"),
    [
        ("Approved.", True),
        ("approved", True),
        (" OK! ", True),
        ("Looks good", True),
        ("", False),
        ("Approved, but shorter", False),
        ("no", False),
    ],
)
def test_only_a_bare_approval_approves(feedback: str, holds: bool) -> None:
    assert approves(feedback) == holds


async def test_a_resume_without_feedback_asks_again_whatever_is_approve_contains(start: Start) -> None:
    sandbox_client = await start(human_questions=1)
    kickoff_id = await sandbox_client.kickoff()
    sandbox_client.clock.forward(1)
    assert await resume(sandbox_client, kickoff_id, await question(sandbox_client), "", isApprove=True) == "asked_again"


async def test_only_the_original_id_and_the_latest_task_count(start: Start) -> None:
    sandbox_client = await start(human_questions=1)
    kickoff_id = await sandbox_client.kickoff()
    assert await resume(sandbox_client, kickoff_id, "too-early") == "no_effect"
    sandbox_client.clock.forward(1)
    task_id = await question(sandbox_client)
    continuation = await sandbox_client.json("POST", "/resume", json={"executionId": "invented", "taskId": task_id})
    assert await resume(sandbox_client, continuation["kickoff_id"], task_id) == "no_effect"
    assert await resume(sandbox_client, kickoff_id, "draft_task") == "no_effect"
    assert await sandbox_client.states(kickoff_id) == ["NOT FOUND"]
    assert await resume(sandbox_client, kickoff_id, task_id) == "continued"


async def test_webhooks_go_only_where_the_resume_says(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(human_questions=2)
    old, new = ({"taskWebhookUrl": f"{receiver.url}/{name}"} for name in ("old", "new"))
    kickoff_id = await sandbox_client.kickoff_with({**old, "humanInputWebhookUrl": f"{receiver.url}/human"})
    await sandbox_client.later(1)
    await resume(sandbox_client, kickoff_id, await question(sandbox_client), **new)
    await sandbox_client.later(1)
    await resume(sandbox_client, kickoff_id, await question(sandbox_client))
    await sandbox_client.later(100)
    urls = [note["url"].rpartition("/")[2] for note in (await sandbox_client.ledger())["webhooks"]]
    assert urls == ["human", "new", "new"]
    assert await sandbox_client.states(kickoff_id) == ["SUCCESS"]


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({"execution_id": "a", "task_id": "b", "human_feedback": "c", "is_approve": True}, ["executionId", "taskId"]),
        ({"executionId": "a"}, ["taskId"]),
    ],
)
async def test_the_documented_snake_case_lacks_its_fields(start: Start, body: Any, missing: list[str]) -> None:
    sandbox_client = await start()
    errors = [{"type": "missing", "loc": ["body", name], "msg": "Field required"} for name in missing]
    assert await sandbox_client.refusal("POST", "/resume", json=body) == (422, {"detail": errors})


async def test_an_unreadable_resume(start: Start) -> None:
    sandbox_client = await start()
    async with sandbox_client.call("POST", "/resume", data=b"{") as response:
        assert (response.status, await response.text()) == (500, "Internal Server Error")
    assert (await sandbox_client.refusal("POST", "/resume", json=[1]))[0] == 422
    code, answer = await sandbox_client.refusal("POST", "/resume", json={"executionId": 1, "taskId": "a"})
    assert (code, answer["detail"][0]["loc"]) == (422, ["body", "executionId"])
    assert (await sandbox_client.refusal("POST", "/resume", json={}, headers={}))[0] == 401


async def test_the_ledger_records_every_resume(start: Start) -> None:
    sandbox_client = await start()
    body = {"executionId": "invented", "taskId": "t", "humanFeedback": "Approved."}
    await sandbox_client.json("POST", "/resume", json=body)
    assert (await sandbox_client.ledger())["resumes"] == [
        {"received_at": START, "body": body, "effect": "no_effect", "answered": 200}
    ]


@pytest.mark.parametrize(
    ("resumed_status", "state"), [("not_found", "NOT FOUND"), ("follows", "RUNNING"), ("failed", "FAILED")]
)
async def test_the_alias_behaves_as_configured(start: Start, resumed_status: str, state: str) -> None:
    sandbox_client = await start(human_questions=1, resumed_status=resumed_status)
    kickoff_id = await sandbox_client.kickoff()
    sandbox_client.clock.forward(1)
    body = {"executionId": kickoff_id, "taskId": await question(sandbox_client), "humanFeedback": "ok"}
    new_id = (await sandbox_client.json("POST", "/resume", json=body))["kickoff_id"]
    status = await sandbox_client.status(new_id)
    assert status["state"] == state
    assert status.get("execution_origin") == (None if resumed_status == "not_found" else "hitl-resume")


async def test_pauses_survive_the_process(clock: HandClock, tmp_path: Path) -> None:
    settings = SandboxSettings(ledger_file=tmp_path / "ledger", human_questions=2, run_time=parse_run_time("fixed:8"))
    async with aiohttp.ClientSession() as session:
        async with running(settings, clock) as url:
            sandbox_client = SandboxClient(url, clock, session)
            kickoff_id = await sandbox_client.kickoff()
            clock.forward(100)
            await resume(sandbox_client, kickoff_id, await question(sandbox_client))
            clock.forward(100)
            second = await question(sandbox_client)
        async with running(settings, clock) as url:
            sandbox_client = SandboxClient(url, clock, session)
            assert await question(sandbox_client) == second
            assert await resume(sandbox_client, kickoff_id, second) == "continued"
            clock.forward(2)
            assert await sandbox_client.states(kickoff_id) == ["SUCCESS"]
            assert (await sandbox_client.ledger())["count"] == 1


@pytest.mark.parametrize("value", ["many", -1, 1.5, True, 101])
async def test_an_invalid_number_of_questions_is_refused(start: Start, value: Any) -> None:
    sandbox_client = await start()
    body = {"inputs": {"topic": "x", "sandbox_human_questions": value}}
    code, answer = await sandbox_client.refusal("POST", "/kickoff", json=body)
    assert code == 422
    assert "sandbox_human_questions" in answer["detail"]
