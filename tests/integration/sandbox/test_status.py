"""GET /status reports the course of an execution in the dialect of the live API."""

import pytest

from bridge.sandbox import parse_run_time

from .conftest import HandClock, Start

MEMBERS = {
    "state",
    "status",
    "result",
    "result_json",
    "usage_metrics",
    "progress",
    "execution_origin",
    "last_step",
    "last_executed_task",
    "source",
}


async def test_an_execution_goes_from_started_through_running_to_success(start: Start, clock: HandClock) -> None:
    sandbox_client = await start(run_time=parse_run_time("fixed:30"))
    kickoff_id = await sandbox_client.kickoff()
    seen = []
    for seconds in (0, 5, 20, 5):
        clock.forward(seconds)
        seen += await sandbox_client.states(kickoff_id)
    assert seen == ["STARTED", "RUNNING", "RUNNING", "SUCCESS"]


async def test_a_running_execution_reports_its_progress_in_tasks(start: Start, clock: HandClock) -> None:
    sandbox_client = await start(run_time=parse_run_time("fixed:30"))
    kickoff_id = await sandbox_client.kickoff()
    clock.forward(15)
    status = await sandbox_client.status(kickoff_id)
    assert set(status) == MEMBERS
    assert status["status"] == "Task is Running"
    assert (status["result"], status["execution_origin"], status["source"]) == (None, "api", "memory")
    assert status["progress"] == {
        "unit": "task",
        "completed": 1,
        "total": 3,
        "remaining": 2,
        "current": "draft_task",
        "current_agent": "Writer",
        "started_at": "2026-09-21T14:13:20Z",
        "updated_at": "2026-09-21T14:13:35Z",
        "duration_seconds": 15.0,
    }


async def test_completed_tasks_are_proportional_to_the_run_time(start: Start, clock: HandClock) -> None:
    sandbox_client = await start(run_time=parse_run_time("fixed:30"))
    kickoff_id = await sandbox_client.kickoff()
    completed = []
    for _ in range(4):
        completed.append((await sandbox_client.status(kickoff_id))["progress"]["completed"])
        clock.forward(10)
    assert completed == [0, 1, 2, 3]


async def test_the_last_executed_task_contains_the_meta(start: Start, clock: HandClock) -> None:
    sandbox_client = await start(run_time=parse_run_time("fixed:30"))
    kickoff_id = await sandbox_client.kickoff(meta={"requestId": "job-1"})
    assert (await sandbox_client.status(kickoff_id))["last_executed_task"] is None
    clock.forward(10)
    task = (await sandbox_client.status(kickoff_id))["last_executed_task"]
    assert (task["name"], task["kickoff_id"], task["meta"]) == ("collect_task", kickoff_id, {"requestId": "job-1"})


async def test_a_success_has_a_result_that_mentions_the_first_input(start: Start, clock: HandClock) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff()
    clock.forward(2)
    status = await sandbox_client.status(kickoff_id)
    assert set(status) == MEMBERS
    assert (status["state"], status["status"], status["result_json"]) == ("SUCCESS", None, None)
    assert status["result"] == "The sandbox crew has dealt with topic: tides."
    assert status["usage_metrics"]["total_tokens"] > 0
    assert status["progress"]["remaining"] == 0
    assert status["last_executed_task"]["output"] == status["result"]


async def test_a_success_does_not_change(start: Start, clock: HandClock) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff()
    clock.forward(2)
    first = await sandbox_client.status(kickoff_id)
    clock.forward(3600)
    assert await sandbox_client.status(kickoff_id) == first


async def test_a_failure_has_its_exception_in_status_and_nothing_else(start: Start, clock: HandClock) -> None:
    sandbox_client = await start(failure_rate=1.0)
    kickoff_id = await sandbox_client.kickoff()
    clock.forward(2)
    status = await sandbox_client.status(kickoff_id)
    assert status["state"] == "FAILED"
    assert status["status"].startswith("ValueError: ")
    assert [status[name] for name in ("result", "result_json", "progress", "last_executed_task")] == [None] * 4


async def test_an_unknown_id_is_a_200_with_not_found(start: Start) -> None:
    sandbox_client = await start()
    code, status = await sandbox_client.refusal("GET", "/status/3f0c2a52")
    assert code == 200
    assert (status["state"], status["source"]) == ("NOT FOUND", "application")
    assert status["status"] == "Task not found or Invalid kickoff id"


async def test_an_execution_without_a_free_worker_is_pending(start: Start, clock: HandClock) -> None:
    sandbox_client = await start(workers=1, run_time=parse_run_time("fixed:10"))
    first, second = await sandbox_client.kickoff(), await sandbox_client.kickoff()
    assert await sandbox_client.states(first, second) == ["STARTED", "PENDING"]
    assert (await sandbox_client.status(second))["status"] == "Task is pending"
    clock.forward(10)
    assert await sandbox_client.states(first, second) == ["SUCCESS", "STARTED"]
    clock.forward(10)
    assert await sandbox_client.states(second) == ["SUCCESS"]


async def test_a_flow_counts_steps_without_a_total_and_names_no_task(start: Start, clock: HandClock) -> None:
    sandbox_client = await start(kind="flow", run_time=parse_run_time("fixed:30"))
    kickoff_id = await sandbox_client.kickoff()
    clock.forward(20)
    status = await sandbox_client.status(kickoff_id)
    progress = status["progress"]
    assert (progress["unit"], progress["completed"], progress["total"], progress["remaining"]) == (
        "step",
        2,
        None,
        None,
    )
    assert status["last_executed_task"] is None


@pytest.mark.parametrize("seconds", [7, "7", 7.0])
async def test_an_input_sets_the_run_time(start: Start, clock: HandClock, seconds: object) -> None:
    sandbox_client = await start(run_time=parse_run_time("fixed:1000"))
    kickoff_id = await sandbox_client.kickoff(sandbox_seconds=seconds)
    clock.forward(6.9)
    assert await sandbox_client.states(kickoff_id) == ["RUNNING"]
    clock.forward(0.1)
    assert await sandbox_client.states(kickoff_id) == ["SUCCESS"]


async def test_an_input_sets_the_outcome(start: Start, clock: HandClock) -> None:
    sandbox_client = await start(failure_rate=0.5)
    good = [await sandbox_client.kickoff(sandbox_outcome="success") for _ in range(8)]
    bad = [await sandbox_client.kickoff(sandbox_outcome="failure") for _ in range(8)]
    clock.forward(2)
    assert await sandbox_client.states(*good, *bad) == ["SUCCESS"] * 8 + ["FAILED"] * 8


@pytest.mark.parametrize("value", [{"score": 81}, '{"score": 81}'])
async def test_an_input_sets_the_result_json(start: Start, clock: HandClock, value: object) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff(sandbox_result_json=value)
    clock.forward(2)
    status = await sandbox_client.status(kickoff_id)
    assert (status["result"], status["result_json"]) == ('{"score":81}', {"score": 81})
