"""Dialects of `/status` and `/inputs` that others have documented."""

from typing import Any

import pytest

from .conftest import SandboxClient, Start


async def statuses(sandbox_client: SandboxClient) -> list[Any]:
    """The status of a running, a successful, a failed, a revoked, and an unknown execution."""
    outcomes = ("success", "failure", "revoked")
    ended = [await sandbox_client.kickoff(sandbox_outcome=outcome) for outcome in outcomes]
    under_way = await sandbox_client.kickoff(sandbox_seconds=4)
    sandbox_client.clock.forward(2)
    return [
        await sandbox_client.refusal("GET", f"/status/{kickoff_id}") for kickoff_id in (under_way, *ended, "unknown")
    ]


async def test_celery_has_failure_and_revoked(start: Start) -> None:
    responses = await statuses(await start(dialect="celery"))
    assert {code for code, _ in responses} == {200}
    assert [body["state"] for _, body in responses] == ["RUNNING", "SUCCESS", "FAILURE", "REVOKED", "NOT FOUND"]
    assert all(set(body) == {"state", "status", "result"} for _, body in responses)


async def test_old_has_neither_progress_nor_tasks(start: Start) -> None:
    responses = await statuses(await start(dialect="old"))
    assert [body["state"] for _, body in responses] == ["RUNNING", "SUCCESS", "FAILED", "REVOKED", "NOT FOUND"]
    assert all(body["source"] == "application" for _, body in responses)
    assert all(body["progress"] is body["last_executed_task"] is None for _, body in responses)
    assert responses[1][1]["result"]


async def test_status_upper_is_upper_case(start: Start) -> None:
    sandbox_client = await start(dialect="status_upper", workers=4)
    responses = await statuses(sandbox_client)
    assert [body.get("status") for _, body in responses] == ["RUNNING", "COMPLETE", "ERROR", "ERROR", None]
    assert responses[1][1]["output"].startswith("The sandbox crew")
    assert responses[2][1]["error"].startswith("ValueError")
    assert responses[4][0] == 404
    for _ in range(4):
        queued = await sandbox_client.kickoff()
    assert (await sandbox_client.status(queued))["status"] == "QUEUED"


async def test_the_reference_responds_as_documented(start: Start) -> None:
    sandbox_client = await start(dialect="reference")
    (_, running), (_, completed), (_, error), (_, revoked), (code, unknown) = await statuses(sandbox_client)
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


async def test_the_reference_has_no_state_for_a_queue_or_a_pause(start: Start) -> None:
    sandbox_client = await start(dialect="reference", workers=1, human_questions=1)
    first, second = await sandbox_client.kickoff(), await sandbox_client.kickoff()
    sandbox_client.clock.forward(1)
    assert [(await sandbox_client.status(each))["status"] for each in (first, second)] == ["running", "running"]


async def test_the_reference_refuses_as_documented(start: Start) -> None:
    sandbox_client = await start(dialect="reference")
    code, body = await sandbox_client.refusal("GET", "/inputs", headers={})
    assert (code, body["error"]) == (401, "Unauthorized")
    code, body = await sandbox_client.refusal("POST", "/kickoff", json={"inputs": {}})
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
async def test_inputs_have_three_formats(start: Start, shape: str, listed: Any) -> None:
    sandbox_client = await start(inputs=("audience", "topic"), inputs_shape=shape)
    assert await sandbox_client.json("GET", "/inputs") == {"inputs": listed}
