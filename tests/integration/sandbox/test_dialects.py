"""`/status` and `/inputs` in the ways that others say they speak."""

from typing import Any

import pytest

from .conftest import HumanInput, Start


async def lives(human_input: HumanInput) -> list[Any]:
    """What is said of one under way, a success, a failure, one revoked, and an unknown one."""
    outcomes = ("success", "failure", "revoked")
    ended = [await human_input.kickoff(sandbox_outcome=outcome) for outcome in outcomes]
    under_way = await human_input.kickoff(sandbox_seconds=4)
    human_input.clock.forward(2)
    return [await human_input.refusal("GET", f"/status/{kickoff_id}") for kickoff_id in (under_way, *ended, "unknown")]


async def test_celery_says_failure_and_revoked(start: Start) -> None:
    responses = await lives(await start(dialect="celery"))
    assert {code for code, _ in responses} == {200}
    assert [body["state"] for _, body in responses] == ["RUNNING", "SUCCESS", "FAILURE", "REVOKED", "NOT FOUND"]
    assert all(set(body) == {"state", "status", "result"} for _, body in responses)


async def test_old_has_neither_progress_nor_tasks(start: Start) -> None:
    responses = await lives(await start(dialect="old"))
    assert [body["state"] for _, body in responses] == ["RUNNING", "SUCCESS", "FAILED", "REVOKED", "NOT FOUND"]
    assert all(body["source"] == "application" for _, body in responses)
    assert all(body["progress"] is body["last_executed_task"] is None for _, body in responses)
    assert responses[1][1]["result"]


async def test_status_upper_speaks_in_capitals(start: Start) -> None:
    human_input = await start(dialect="status_upper", workers=4)
    responses = await lives(human_input)
    assert [body.get("status") for _, body in responses] == ["RUNNING", "COMPLETE", "ERROR", "ERROR", None]
    assert responses[1][1]["output"].startswith("The sandbox crew")
    assert responses[2][1]["error"].startswith("ValueError")
    assert responses[4][0] == 404
    for _ in range(4):
        queued = await human_input.kickoff()
    assert (await human_input.status(queued))["status"] == "QUEUED"


async def test_the_reference_is_answered_as_documented(start: Start) -> None:
    human_input = await start(dialect="reference")
    (_, running), (_, completed), (_, error), (_, revoked), (code, unknown) = await lives(human_input)
    assert running == {
        "status": "running",
        "current_task": "draft_task",
        "progress": {"completed_tasks": 1, "total_tasks": 3},
    }
    assert (completed["status"], completed["execution_time"]) == ("completed", 2.0)
    assert completed["result"]["output"].startswith("The sandbox crew")
    assert [task["task_id"] for task in completed["result"]["tasks"]] == ["collect_task", "draft_task", "review_task"]
    assert (error["status"], revoked["status"]) == ("error", "error")
    assert (code, unknown["error"]) == (404, "Execution not found")


async def test_the_reference_has_no_word_for_a_queue_or_a_pause(start: Start) -> None:
    human_input = await start(dialect="reference", workers=1, human_questions=1)
    first, second = await human_input.kickoff(), await human_input.kickoff()
    human_input.clock.forward(1)
    assert [(await human_input.status(each))["status"] for each in (first, second)] == ["running", "running"]


async def test_the_reference_refuses_as_documented(start: Start) -> None:
    human_input = await start(dialect="reference")
    code, body = await human_input.refusal("GET", "/inputs", headers={})
    assert (code, body["error"]) == (401, "Unauthorized")
    code, body = await human_input.refusal("POST", "/kickoff", json={"inputs": {}})
    assert (code, body["details"]) == (422, {"missing_inputs": ["topic"]})


@pytest.mark.parametrize(
    ("shape", "listed"),
    [
        ("list", ["audience", "topic"]),
        ("object", {"audience": "string", "topic": "string"}),
        (
            "detailed",
            [
                {"name": "audience", "type": "string", "required": True},
                {"name": "topic", "type": "string", "required": True},
            ],
        ),
    ],
)
async def test_inputs_come_in_three_shapes(start: Start, shape: str, listed: Any) -> None:
    human_input = await start(inputs=("audience", "topic"), inputs_shape=shape)
    assert await human_input.json("GET", "/inputs") == {"inputs": listed}
