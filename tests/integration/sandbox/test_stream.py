"""The streaming webhook sends subscribed events, one by one or in batches, with inner flows on request."""

from typing import Any

from .conftest import Receiver, Start

CREW = ["crew_kickoff_started", "crew_kickoff_completed", "crew_kickoff_failed"]
TASKS = ["task_started", "task_completed", "task_failed"]
FLOW = ["flow_started", "flow_finished", "crew_kickoff_completed", "method_execution_failed"]


def stream(receiver: Receiver, events: list[str], *, realtime: bool = True) -> dict[str, Any]:
    authentication = {"strategy": "bearer", "token": "stream-token"}
    url = f"{receiver.url}/stream"
    return {"webhooks": {"events": events, "url": url, "realtime": realtime, "authentication": authentication}}


async def events_of(sandbox_client: Any, receiver: Receiver) -> list[Any]:
    posts = len(await sandbox_client.sent())
    events = [event for delivery in await receiver.take(posts) for event in delivery.body["events"]]
    return sorted(events, key=lambda event: event["data"]["emission_sequence"])


async def test_a_crew_streams_its_events_in_the_envelope(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start()
    kickoff_id = await sandbox_client.kickoff_with(stream(receiver, CREW + TASKS))
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    task = ["task_started", "task_completed"]
    assert [event["type"] for event in events] == ["crew_kickoff_started", *task * 3, "crew_kickoff_completed"]
    assert all(set(event) == {"id", "execution_id", "timestamp", "type", "data"} for event in events)
    assert {event["execution_id"] for event in events} == {kickoff_id}
    assert events[0]["timestamp"] == "2026-09-21T14:13:20.000Z"
    assert events[0]["data"]["inputs"] == {"topic": "tides"}
    assert events[2]["data"]["output"]["raw"] == "Notes on topic: tides"
    assert "meta" not in str(events)
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
    assert events[-1]["data"]["error"].startswith("ValueError: ")


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


async def test_a_flow_streams_its_methods_and_its_end(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(kind="flow")
    await sandbox_client.kickoff_with(stream(receiver, FLOW))
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    assert [event["type"] for event in events] == ["flow_started", "flow_finished"]
    assert events[1]["data"]["result"] == "The sandbox flow has dealt with topic: tides."


async def test_a_failing_flow_reports_only_its_method(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(kind="flow")
    await sandbox_client.kickoff_with(stream(receiver, [*FLOW, "flow_failed"]), sandbox_outcome="failure")
    await sandbox_client.later(2)
    assert [event["type"] for event in await events_of(sandbox_client, receiver)] == [
        "flow_started",
        "method_execution_failed",
    ]


async def test_inner_flows_have_ids_of_their_own(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(kind="flow", stream_nested=True)
    kickoff_id = await sandbox_client.kickoff_with(stream(receiver, FLOW))
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    finished = [event for event in events if event["type"] == "flow_finished"]
    names = [event["data"]["flow_name"] for event in finished]
    assert names == ["AgentExecutor"] * 3 + ["SandboxFlow"]
    assert {event["data"]["result"] for event in finished[:3]} == {"completed"}
    inner = [event for event in events if event["execution_id"] != kickoff_id]
    assert {event["type"] for event in inner} == {"flow_started", "flow_finished", "crew_kickoff_completed"}


async def test_a_crew_has_inner_flows_too(start: Start, receiver: Receiver) -> None:
    sandbox_client = await start(stream_nested=True)
    await sandbox_client.kickoff_with(stream(receiver, ["flow_finished", "crew_kickoff_completed"]))
    await sandbox_client.later(2)
    events = await events_of(sandbox_client, receiver)
    assert [event["type"] for event in events] == ["flow_finished"] * 3 + ["crew_kickoff_completed"]
