"""GET /status tells the life of an execution in the dialect that is seen live."""

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


async def test_an_execution_goes_from_started_over_running_to_success(start: Start, clock: HandClock) -> None:
    human_input = await start(run_time=parse_run_time("fixed:30"))
    kickoff_id = await human_input.kickoff()
    seen = []
    for seconds in (0, 5, 20, 5):
        clock.forward(seconds)
        seen += await human_input.states(kickoff_id)
    assert seen == ["STARTED", "RUNNING", "RUNNING", "SUCCESS"]


async def test_a_running_execution_tells_its_progress_in_tasks(start: Start, clock: HandClock) -> None:
    human_input = await start(run_time=parse_run_time("fixed:30"))
    kickoff_id = await human_input.kickoff()
    clock.forward(15)
    status = await human_input.status(kickoff_id)
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


async def test_completed_tasks_follow_the_share_of_the_run_time(start: Start, clock: HandClock) -> None:
    human_input = await start(run_time=parse_run_time("fixed:30"))
    kickoff_id = await human_input.kickoff()
    completed = []
    for _ in range(4):
        completed.append((await human_input.status(kickoff_id))["progress"]["completed"])
        clock.forward(10)
    assert completed == [0, 1, 2, 3]


async def test_the_last_executed_task_gives_back_the_meta(start: Start, clock: HandClock) -> None:
    human_input = await start(run_time=parse_run_time("fixed:30"))
    kickoff_id = await human_input.kickoff(meta={"requestId": "job-1"})
    assert (await human_input.status(kickoff_id))["last_executed_task"] is None
    clock.forward(10)
    task = (await human_input.status(kickoff_id))["last_executed_task"]
    assert (task["name"], task["kickoff_id"], task["meta"]) == ("collect_task", kickoff_id, {"requestId": "job-1"})


async def test_a_success_has_a_result_that_mentions_the_first_input(start: Start, clock: HandClock) -> None:
    human_input = await start()
    kickoff_id = await human_input.kickoff()
    clock.forward(2)
    status = await human_input.status(kickoff_id)
    assert set(status) == MEMBERS
    assert (status["state"], status["status"], status["result_json"]) == ("SUCCESS", None, None)
    assert status["result"] == "The sandbox crew has dealt with topic: tides."
    assert status["usage_metrics"]["total_tokens"] > 0
    assert status["progress"]["remaining"] == 0
    assert status["last_executed_task"]["output"] == status["result"]


async def test_a_success_stays_as_it_is(start: Start, clock: HandClock) -> None:
    human_input = await start()
    kickoff_id = await human_input.kickoff()
    clock.forward(2)
    first = await human_input.status(kickoff_id)
    clock.forward(3600)
    assert await human_input.status(kickoff_id) == first


async def test_a_failure_tells_its_exception_in_status_and_nothing_else(start: Start, clock: HandClock) -> None:
    human_input = await start(failure_rate=1.0)
    kickoff_id = await human_input.kickoff()
    clock.forward(2)
    status = await human_input.status(kickoff_id)
    assert status["state"] == "FAILED"
    assert status["status"].startswith("ValueError: ")
    assert [status[name] for name in ("result", "result_json", "progress", "last_executed_task")] == [None] * 4


async def test_an_unknown_id_is_a_200_that_says_not_found(start: Start) -> None:
    human_input = await start()
    code, status = await human_input.refusal("GET", "/status/3f0c2a52")
    assert code == 200
    assert (status["state"], status["source"]) == ("NOT FOUND", "application")
    assert status["status"] == "Task not found or Invalid kickoff id"


async def test_an_execution_without_a_free_worker_reads_pending(start: Start, clock: HandClock) -> None:
    human_input = await start(workers=1, run_time=parse_run_time("fixed:10"))
    first, second = await human_input.kickoff(), await human_input.kickoff()
    assert await human_input.states(first, second) == ["STARTED", "PENDING"]
    assert (await human_input.status(second))["status"] == "Task is pending"
    clock.forward(10)
    assert await human_input.states(first, second) == ["SUCCESS", "STARTED"]
    clock.forward(10)
    assert await human_input.states(second) == ["SUCCESS"]


async def test_a_flow_counts_steps_without_a_total_and_names_no_task(start: Start, clock: HandClock) -> None:
    human_input = await start(kind="flow", run_time=parse_run_time("fixed:30"))
    kickoff_id = await human_input.kickoff()
    clock.forward(20)
    status = await human_input.status(kickoff_id)
    progress = status["progress"]
    assert (progress["unit"], progress["completed"], progress["total"], progress["remaining"]) == (
        "step",
        2,
        None,
        None,
    )
    assert status["last_executed_task"] is None


@pytest.mark.parametrize("seconds", [7, "7", 7.0])
async def test_an_input_fixes_the_run_time(start: Start, clock: HandClock, seconds: object) -> None:
    human_input = await start(run_time=parse_run_time("fixed:1000"))
    kickoff_id = await human_input.kickoff(sandbox_seconds=seconds)
    clock.forward(6.9)
    assert await human_input.states(kickoff_id) == ["RUNNING"]
    clock.forward(0.1)
    assert await human_input.states(kickoff_id) == ["SUCCESS"]


async def test_an_input_fixes_the_outcome(start: Start, clock: HandClock) -> None:
    human_input = await start(failure_rate=0.5)
    good = [await human_input.kickoff(sandbox_outcome="success") for _ in range(8)]
    bad = [await human_input.kickoff(sandbox_outcome="failure") for _ in range(8)]
    clock.forward(2)
    assert await human_input.states(*good, *bad) == ["SUCCESS"] * 8 + ["FAILED"] * 8


@pytest.mark.parametrize("value", [{"score": 81}, '{"score": 81}'])
async def test_an_input_fixes_the_result_json(start: Start, clock: HandClock, value: object) -> None:
    human_input = await start()
    kickoff_id = await human_input.kickoff(sandbox_result_json=value)
    clock.forward(2)
    status = await human_input.status(kickoff_id)
    assert (status["result"], status["result_json"]) == ('{"score":81}', {"score": 81})
