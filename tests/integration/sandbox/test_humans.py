"""A crew waits for a human; only the right resume moves it on."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from bridge.sandbox.resume import approves

from .conftest import START, HandClock, HumanInput, Receiver, Start


async def question(human_input: HumanInput) -> str:
    """The id of the only question that is open."""
    (waiting,) = (await human_input.ledger())["waiting"]
    task_id: str = waiting["task_id"]
    return task_id


async def resume(
    human_input: HumanInput, kickoff_id: str, task_id: str, feedback: str = "Approved.", **more: Any
) -> str:
    """Resume, and say what came of it."""
    body = {"executionId": kickoff_id, "taskId": task_id, "humanFeedback": feedback, **more}
    code, answer = await human_input.refusal("POST", "/resume", json=body)
    assert code == 200
    assert list(answer) == ["kickoff_id"]
    assert answer["kickoff_id"] != kickoff_id
    effect: str = (await human_input.ledger())["resumes"][-1]["effect"]
    return effect


async def test_a_crew_that_waits_reads_not_found_with_200(start: Start) -> None:
    human_input = await start(human_questions=1)
    kickoff_id = await human_input.kickoff()
    assert await human_input.states(kickoff_id) == ["STARTED"]
    human_input.clock.forward(1)
    assert await human_input.status(kickoff_id) == await human_input.status("unknown")
    human_input.clock.forward(3600)
    assert await human_input.states(kickoff_id) == ["NOT FOUND"]


async def test_by_setting_it_reads_paused(start: Start) -> None:
    human_input = await start(human_questions=1, human_status="paused")
    kickoff_id = await human_input.kickoff()
    human_input.clock.forward(1)
    status = await human_input.status(kickoff_id)
    assert (status["state"], status["result"], status["progress"]["completed"]) == ("PAUSED", None, 1)


@pytest.mark.parametrize(("value", "waits"), [(1, True), ("1", True), (0, False), ("0", False)])
async def test_an_input_fixes_the_questions_of_one_run(start: Start, value: Any, waits: bool) -> None:
    human_input = await start(human_questions=0 if waits else 3)
    kickoff_id = await human_input.kickoff(sandbox_human_questions=value)
    human_input.clock.forward(2)
    assert await human_input.states(kickoff_id) == (["NOT FOUND"] if waits else ["SUCCESS"])


async def test_the_human_input_webhook_tells_what_a_resume_needs(start: Start, receiver: Receiver) -> None:
    human_input = await start(human_questions=1)
    kickoff_id = await human_input.kickoff_with({"humanInputWebhookUrl": f"{receiver.url}/human"})
    await human_input.later(1)
    body = (await receiver.one()).body
    assert set(body) == {"kickoff_id", "execution_id", "task_id", "task_output", "meta"}
    assert (body["kickoff_id"], body["execution_id"], body["meta"]) == (kickoff_id, kickoff_id, {"job": 1})
    assert body["task_id"] == await question(human_input)


async def test_an_approval_lets_the_run_go_on_where_it_stood(start: Start) -> None:
    human_input = await start(human_questions=1, run_time=parse_run_time("fixed:10"))
    kickoff_id = await human_input.kickoff()
    human_input.clock.forward(1000)
    assert await resume(human_input, kickoff_id, await question(human_input)) == "continued"
    assert await human_input.states(kickoff_id) == ["RUNNING"]
    human_input.clock.forward(5)
    assert await human_input.states(kickoff_id) == ["SUCCESS"]
    assert (await human_input.ledger())["kickoffs"][0]["ended_at"] == START + 1005


async def test_each_question_has_a_new_task_id(start: Start) -> None:
    human_input = await start(human_questions=3)
    kickoff_id = await human_input.kickoff()
    seen = []
    for _ in range(3):
        human_input.clock.forward(100)
        seen.append(await question(human_input))
        assert await resume(human_input, kickoff_id, seen[-1]) == "continued"
    assert len(set(seen)) == 3
    human_input.clock.forward(100)
    assert await human_input.states(kickoff_id) == ["SUCCESS"]


async def test_any_other_text_does_the_task_again_and_asks_again(start: Start, receiver: Receiver) -> None:
    human_input = await start(human_questions=1, run_time=parse_run_time("fixed:30"))
    again = {"humanInputWebhookUrl": f"{receiver.url}/human"}
    kickoff_id = await human_input.kickoff_with(again)
    await human_input.later(15)
    first = (await receiver.one()).body["task_id"]
    assert await resume(human_input, kickoff_id, first, "Approved, but shorter", **again) == "asked_again"
    assert await human_input.states(kickoff_id) == ["RUNNING"]
    await human_input.later(5)
    second = (await receiver.one()).body["task_id"]
    assert second != first
    assert await resume(human_input, kickoff_id, first) == "no_effect"
    assert await resume(human_input, kickoff_id, second) == "continued"


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


async def test_a_resume_without_feedback_asks_again_whatever_is_approve_says(start: Start) -> None:
    human_input = await start(human_questions=1)
    kickoff_id = await human_input.kickoff()
    human_input.clock.forward(1)
    assert await resume(human_input, kickoff_id, await question(human_input), "", isApprove=True) == "asked_again"


async def test_only_the_original_id_and_the_latest_task_count(start: Start) -> None:
    human_input = await start(human_questions=1)
    kickoff_id = await human_input.kickoff()
    assert await resume(human_input, kickoff_id, "too-early") == "no_effect"
    human_input.clock.forward(1)
    task_id = await question(human_input)
    continuation = await human_input.json("POST", "/resume", json={"executionId": "invented", "taskId": task_id})
    assert await resume(human_input, continuation["kickoff_id"], task_id) == "no_effect"
    assert await resume(human_input, kickoff_id, "draft_task") == "no_effect"
    assert await human_input.states(kickoff_id) == ["NOT FOUND"]
    assert await resume(human_input, kickoff_id, task_id) == "continued"


async def test_webhooks_go_only_where_the_resume_says(start: Start, receiver: Receiver) -> None:
    human_input = await start(human_questions=2)
    old, new = ({"taskWebhookUrl": f"{receiver.url}/{name}"} for name in ("old", "new"))
    kickoff_id = await human_input.kickoff_with({**old, "humanInputWebhookUrl": f"{receiver.url}/human"})
    await human_input.later(1)
    await resume(human_input, kickoff_id, await question(human_input), **new)
    await human_input.later(1)
    await resume(human_input, kickoff_id, await question(human_input))
    await human_input.later(100)
    urls = [note["url"].rpartition("/")[2] for note in (await human_input.ledger())["webhooks"]]
    assert urls == ["human", "new", "new"]
    assert await human_input.states(kickoff_id) == ["SUCCESS"]


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({"execution_id": "a", "task_id": "b", "human_feedback": "c", "is_approve": True}, ["executionId", "taskId"]),
        ({"executionId": "a"}, ["taskId"]),
    ],
)
async def test_the_documented_snake_case_is_missing_its_fields(start: Start, body: Any, missing: list[str]) -> None:
    human_input = await start()
    errors = [{"type": "missing", "loc": ["body", name], "msg": "Field required"} for name in missing]
    assert await human_input.refusal("POST", "/resume", json=body) == (422, {"detail": errors})


async def test_a_resume_that_cannot_be_read(start: Start) -> None:
    human_input = await start()
    async with human_input.call("POST", "/resume", data=b"{") as response:
        assert (response.status, await response.text()) == (500, "Internal Server Error")
    assert (await human_input.refusal("POST", "/resume", json=[1]))[0] == 422
    code, answer = await human_input.refusal("POST", "/resume", json={"executionId": 1, "taskId": "a"})
    assert (code, answer["detail"][0]["loc"]) == (422, ["body", "executionId"])
    assert (await human_input.refusal("POST", "/resume", json={}, headers={}))[0] == 401


async def test_the_ledger_tells_every_resume(start: Start) -> None:
    human_input = await start()
    body = {"executionId": "invented", "taskId": "t", "humanFeedback": "Approved."}
    await human_input.json("POST", "/resume", json=body)
    assert (await human_input.ledger())["resumes"] == [
        {"received_at": START, "body": body, "effect": "no_effect", "answered": 200}
    ]


@pytest.mark.parametrize(
    ("resumed_status", "state"), [("not_found", "NOT FOUND"), ("follows", "RUNNING"), ("failed", "FAILED")]
)
async def test_the_new_id_leads_where_the_setting_says(start: Start, resumed_status: str, state: str) -> None:
    human_input = await start(human_questions=1, resumed_status=resumed_status)
    kickoff_id = await human_input.kickoff()
    human_input.clock.forward(1)
    body = {"executionId": kickoff_id, "taskId": await question(human_input), "humanFeedback": "ok"}
    new_id = (await human_input.json("POST", "/resume", json=body))["kickoff_id"]
    status = await human_input.status(new_id)
    assert status["state"] == state
    assert status.get("execution_origin") == (None if resumed_status == "not_found" else "hitl-resume")


async def test_pauses_outlive_the_process(clock: HandClock, tmp_path: Path) -> None:
    settings = SandboxSettings(ledger_file=tmp_path / "ledger", human_questions=2, run_time=parse_run_time("fixed:8"))
    async with aiohttp.ClientSession() as session:
        async with running(settings, clock) as url:
            human_input = HumanInput(url, clock, session)
            kickoff_id = await human_input.kickoff()
            clock.forward(100)
            await resume(human_input, kickoff_id, await question(human_input))
            clock.forward(100)
            second = await question(human_input)
        async with running(settings, clock) as url:
            human_input = HumanInput(url, clock, session)
            assert await question(human_input) == second
            assert await resume(human_input, kickoff_id, second) == "continued"
            clock.forward(2)
            assert await human_input.states(kickoff_id) == ["SUCCESS"]
            assert (await human_input.ledger())["count"] == 1


@pytest.mark.parametrize("value", ["many", -1, 1.5, True, 101])
async def test_a_number_of_questions_that_makes_no_sense_is_refused(start: Start, value: Any) -> None:
    human_input = await start()
    body = {"inputs": {"topic": "x", "sandbox_human_questions": value}}
    code, answer = await human_input.refusal("POST", "/kickoff", json=body)
    assert code == 422
    assert "sandbox_human_questions" in answer["detail"]
