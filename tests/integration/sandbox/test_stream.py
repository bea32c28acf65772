"""The streaming webhook sends subscribed events, one by one or in batches, with inner flows on request."""

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Receiver, Start

CREW = ["crew_kickoff_started", "crew_kickoff_completed", "crew_kickoff_failed"]
TASKS = ["task_started", "task_completed", "task_failed"]
FLOW = ["flow_started", "flow_finished", "flow_failed", "flow_paused"]
INNER = ["crew_kickoff_started", "crew_kickoff_completed"]
METHODS = ["method_execution_started", "method_execution_finished", "method_execution_failed"]
COMMON = {
    "timestamp", "type", "source_fingerprint", "source_type", "fingerprint_metadata", "task_id", "task_name",
    "agent_id", "agent_role", "event_id", "parent_event_id", "previous_event_id", "triggered_by_event_id",
    "started_event_id", "emission_sequence",
}  # fmt: skip
CAPTURED = Path(__file__).parents[2] / "captured"


def stream(receiver: Receiver, events: list[str], *, realtime: bool = True) -> dict[str, Any]:
    authentication = {"strategy": "bearer", "token": "stream-token"}
    url = f"{receiver.url}/stream"
    return {"webhooks": {"events": events, "url": url, "realtime": realtime, "authentication": authentication}}


async def events_of(sandbox_client: Any, receiver: Receiver) -> list[Any]:
    posts = len(await sandbox_client.sent())
    events = [event for delivery in await receiver.take(posts) for event in delivery.body["events"]]
    return sorted(events, key=lambda event: (event["timestamp"], event["data"]["emission_sequence"]))


async def answered(sandbox_client: Any) -> None:
    """Answer the open question of a flow."""
    (waiting,) = (await sandbox_client.later(1))["waiting"]
    sandbox_client.clock.forward(0.5)
    path = waiting["callback_url"].removeprefix(sandbox_client.url)
    assert (await sandbox_client.refusal("POST", path, json={"feedback": "approved"}))[0] == 200


async def test_a_crew_streams_its_events_in_the_envelope(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff_with(stream(receiver, CREW + TASKS))
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    task = ["task_started", "task_completed"]
    assert [event["type"] for event in events] == ["crew_kickoff_started", *task * 3, "crew_kickoff_completed"]
    assert all(set(event) == {"id", "execution_id", "timestamp", "type", "data"} for event in events)
    assert {event["execution_id"] for event in events} == {kickoff_id}
    assert events[0]["timestamp"] == "2026-09-21T14:13:20.000000+00:00"
    assert events[0]["data"]["timestamp"] == "2026-09-21T14:13:20.000000Z"
    assert all(set(event["data"]) >= COMMON for event in events)
    assert events[0]["data"]["inputs"] == {"topic": "tides"}
    assert events[2]["data"]["output"]["raw"] == "Notes on topic: tides"
    assert not any("meta" in event or "meta" in event["data"] for event in events)
    assert len({event["id"] for event in events}) == len(events)


async def test_the_stream_is_authenticated(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    await sandbox_client.kickoff_with(stream(receiver, CREW))
    await sandbox_client.later(2)
    assert (await receiver.one()).headers["Authorization"] == "Bearer stream-token"


async def test_a_failure_is_streamed(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    await sandbox_client.kickoff_with(stream(receiver, [*CREW, "task_failed"]), sandbox_outcome="failure")
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    assert [event["type"] for event in events] == ["crew_kickoff_started", "task_failed", "crew_kickoff_failed"]
    assert events[-1]["data"]["error"] == "the sandbox let this execution fail"  # without the class
    assert events[1]["data"]["error_type"] == "builtins:ValueError"


async def test_only_subscribed_events_are_sent(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    await sandbox_client.kickoff_with(stream(receiver, ["crew_kickoff_completed", "unheard_of"]))
    assert await sandbox_client.sent(2) == ["stream"]
    events = (await receiver.one()).body["events"]
    assert [event["type"] for event in events] == ["crew_kickoff_completed"]


async def test_without_realtime_events_are_sent_in_batches(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    await sandbox_client.kickoff_with(stream(receiver, CREW + TASKS, realtime=False))
    assert await sandbox_client.sent(2) == ["stream", "stream"]
    assert [len(delivery.body["events"]) for delivery in await receiver.take(2)] == [4, 4]


async def test_a_flow_streams_its_start_and_its_end(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(kind="flow")
    kickoff_id = await sandbox_client.kickoff_with(stream(receiver, FLOW))
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    assert [event["type"] for event in events] == ["flow_started", "flow_finished"]
    assert events[0]["data"]["inputs"] == {"topic": "tides", "id": kickoff_id}
    assert events[1]["data"]["result"]["summary"] == "The sandbox flow has dealt with topic: tides."
    assert events[1]["data"]["state"] == {"topic": "tides", "id": kickoff_id}


async def test_a_failing_flow_names_its_method_and_its_end(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(kind="flow")
    await sandbox_client.kickoff_with(stream(receiver, [*FLOW, "method_execution_failed"]), sandbox_outcome="failure")
    await sandbox_client.later(2)
    assert [event["type"] for event in await events_of(sandbox_client, receiver)] == [
        "flow_started",
        "method_execution_failed",
        "flow_failed",
    ]


async def test_inner_executions_have_ids_of_their_own(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(kind="flow", stream_nested=True)
    kickoff_id = await sandbox_client.kickoff_with(stream(receiver, FLOW + INNER))
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    inner = [event for event in events if event["execution_id"] != kickoff_id]
    assert {event["type"] for event in inner} == {"flow_started", "flow_finished", *INNER}
    finished = [event["data"]["flow_name"] for event in events if event["type"] == "flow_finished"]
    assert finished.count("AgentExecutor") == 2
    assert set(finished) == {"RecallFlow", "EncodingFlow", "AgentExecutor", "ChildFlow", "SandboxFlow"}


@pytest.mark.parametrize("kind", ["crew", "flow"])
@pytest.mark.parametrize("outcome", ["success", "failure"])
async def test_only_the_start_and_the_end_of_the_run_have_no_parent(
    start: Start, receiver: Receiver, kind: str, outcome: str
) -> None:
    sandbox_client = await start(kind=kind, stream_nested=True)
    await sandbox_client.kickoff_with(stream(receiver, CREW + TASKS + FLOW + METHODS), sandbox_outcome=outcome)
    await sandbox_client.later(2)
    events = [event["data"] for event in await events_of(sandbox_client, receiver)]
    outer = [data["type"] for data in events if data["parent_event_id"] is None]
    ends = {"crew": ("crew_kickoff_completed", "crew_kickoff_failed"), "flow": ("flow_finished", "flow_failed")}[kind]
    assert outer == ["crew_kickoff_started" if kind == "crew" else "flow_started", ends[outcome == "failure"]]
    by_id = {data["event_id"]: data for data in events}
    assert all(data["parent_event_id"] in by_id for data in events if data["parent_event_id"] is not None)
    assert events[-1]["started_event_id"] == events[0]["event_id"]


async def test_executions_in_threads_of_a_flow_have_no_parent_and_count_from_1(
    start: Start, receiver: Receiver
) -> None:
    sandbox_client = await start(kind="flow", stream_nested=True, stream_parents="threads")
    kickoff_id = await sandbox_client.kickoff_with(stream(receiver, CREW + FLOW))
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    outer = [event for event in events if event["data"]["parent_event_id"] is None]
    inner = [event for event in outer if event["execution_id"] != kickoff_id]
    names = {event["data"].get("crew_name") or event["data"]["flow_name"] for event in inner}
    assert names == {"InnerCrew", "ChildFlow"}
    assert {event["data"]["emission_sequence"] for event in inner if "start" in event["type"]} == {
        3
    }  # after its memory
    assert [event["type"] for event in outer if event not in inner] == ["flow_started", "flow_finished"]


async def test_older_libraries_name_no_parent(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(kind="flow", stream_nested=True, stream_parents="absent")
    await sandbox_client.kickoff_with(stream(receiver, CREW + FLOW))
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    assert [event for event in events if "parent_event_id" in event["data"]] == []


async def test_a_crew_has_the_flows_of_its_agents_and_its_memory(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(stream_nested=True)
    await sandbox_client.kickoff_with(stream(receiver, ["flow_finished", "crew_kickoff_completed"]))
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    names = [event["data"].get("flow_name") for event in events]
    assert names == ["RecallFlow", "AgentExecutor", "EncodingFlow"] * 3 + [None]


async def test_a_pause_gives_a_flow_a_second_start_and_another_id(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(kind="flow", human_questions=1, stream_nested=True)
    kickoff_id = await sandbox_client.kickoff_with(stream(receiver, FLOW))
    await answered(sandbox_client)
    await sandbox_client.later(1)
    events = await events_of(sandbox_client, receiver)
    outer = [event for event in events if event["data"]["parent_event_id"] is None]
    assert [event["type"] for event in outer] == ["flow_started", "flow_paused", "flow_started", "flow_finished"]
    assert [event["execution_id"] == kickoff_id for event in outer] == [True, True, False, False]
    assert [event["data"]["emission_sequence"] for event in outer][::2] == [1, 1]
    assert outer[2]["data"]["inputs"] is None
    assert outer[1]["data"]["started_event_id"] == outer[0]["data"]["event_id"]
    assert (outer[1]["data"]["flow_id"], outer[3]["data"]["state"]["id"]) == (kickoff_id, kickoff_id)
    assert len({event["id"] for event in events}) == len(events)


async def test_after_a_pause_no_inner_flow_of_a_crew_looks_outermost(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(human_questions=1, stream_nested=True)
    hook = stream(receiver, CREW + FLOW)
    kickoff_id = await sandbox_client.kickoff_with(hook)
    (waiting,) = (await sandbox_client.later(1))["waiting"]
    answer = {"executionId": kickoff_id, "taskId": waiting["task_id"], "humanFeedback": "Approved.", **hook}
    await sandbox_client.json("POST", "/resume", json=answer)
    await sandbox_client.later(1)
    events = await events_of(sandbox_client, receiver)
    outer = [event["type"] for event in events if event["data"]["parent_event_id"] is None]
    assert outer == ["crew_kickoff_started", "crew_kickoff_completed"]
    assert events[-1]["data"]["started_event_id"] == events[0]["id"]


async def test_the_output_of_a_crew_is_that_of_its_last_task(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    await sandbox_client.kickoff_with(stream(receiver, CREW), sandbox_result_json={"score": 8})
    await sandbox_client.later(2)
    output = (await events_of(sandbox_client, receiver))[-1]["data"]["output"]
    assert (output["raw"], output["json_dict"], output["name"]) == ('{"score":8}', {"score": 8}, "review_task")


def captured_events() -> list[Any]:
    bodies = [json.loads(file.read_text())["body"] for file in sorted(CAPTURED.glob("stream_*.json"))]
    return [event for body in bodies for event in body["events"]]


def members_of_outputs(events: list[Any]) -> set[frozenset[str]]:
    return {frozenset(event["data"]["output"]) for event in events if event["type"] == "crew_kickoff_completed"}


async def test_events_have_the_members_of_captured_ones(start: Start, receiver: Receiver) -> None:
    """Each type of event that a real crew sent has exactly the same members here."""
    real = {event["type"]: set(event["data"]) for event in captured_events()}
    assert real.keys() >= {"flow_started", "flow_finished", "flow_failed", "flow_paused", *INNER}
    sandbox_client = await start(kind="flow", stream_nested=True)
    hook = stream(receiver, list(real))
    await sandbox_client.kickoff_with(hook, sandbox_human_questions=1)
    await answered(sandbox_client)
    await sandbox_client.kickoff_with(hook, sandbox_outcome="failure")
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    assert {event["type"]: set(event["data"]) for event in events} == {name: real[name] for name in real}
    assert members_of_outputs(events) == members_of_outputs(captured_events())
