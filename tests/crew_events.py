"""Streamed events as crewai 1.15.30 emits them, for tests with kickoff ids of their own.

They are those of a flow that runs a crew, of one that does so in a thread, of one that pauses, of one that fails, and
of a crew with memory; their members are those in `tests/captured`, with long texts removed.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

EXECUTION = "5b1d9c7e-2f64-4a3b-8c1a-9e7f6d5c4b3a"
AFTER_PAUSE = "c0ffee00-1111-4222-8333-444455556666"
"""The `execution_id` of a flow that continues after a pause."""
METHOD = "parent-method"
STATE = {"topic": "tides", "count": 3, "draft": "Tides are useful."}
_BEGINNING = datetime(2026, 11, 30, 0, 32, 45, 525146, UTC)
_COMMON = (
    "source_fingerprint", "source_type", "fingerprint_metadata", "task_id", "task_name", "agent_id", "agent_role",
    "previous_event_id", "triggered_by_event_id", "started_event_id",
)  # fmt: skip

Event = dict[str, Any]


def event(type_: str, number: int, *, parent: str | None = None, execution_id: str = EXECUTION, **data: Any) -> Event:
    """An event with every common member; `number` is its `emission_sequence` and its second."""
    at, event_id = _BEGINNING + timedelta(seconds=number), f"event-{execution_id[:4]}-{number}"
    common = dict.fromkeys(_COMMON) | {
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "type": type_,
        "event_id": event_id,
        "parent_event_id": parent,
        "emission_sequence": number,
    }
    return {
        "id": event_id,
        "execution_id": execution_id,
        "timestamp": at.isoformat(),
        "type": type_,
        "data": common | data,
    }


def inner_flow(name: str, number: int, execution_id: str = EXECUTION, **state: Any) -> list[Event]:
    """The events of a flow that wraps an agent, or reads or writes its memory."""
    return [
        event("flow_started", number, parent=METHOD, execution_id=execution_id, flow_name=name, inputs=None),
        event(
            "flow_finished", number + 1, parent=METHOD, execution_id=execution_id, flow_name=name, result="completed",
            state={"id": "00000000-0000-4000-8000-000000000009", "is_finished": True, **state},
        ),
    ]  # fmt: skip


def flow_with_crew(kickoff_id: str = EXECUTION, inner: str = EXECUTION) -> list[Event]:
    """A flow that runs a crew of one agent; `inner`: the `execution_id` of the events of the crew."""
    crew = {"crew_name": "TideCrew"}
    output = {
        "name": "verdict_task",
        "raw": "Tides are useful.",
        "pydantic": None,
        "json_dict": None,
        "agent": "Writer",
    }
    return [
        event(
            "flow_started", 1, execution_id=kickoff_id, flow_name="CrewFlow",
            inputs={"topic": "tides", "id": kickoff_id},
        ),
        event("crew_kickoff_started", 6, parent=METHOD, execution_id=inner, **crew, inputs={"topic": "tides"}),
        *inner_flow("AgentExecutor", 9, inner),
        event("crew_kickoff_completed", 37, parent=METHOD, execution_id=inner, **crew, output=output, total_tokens=367),
        event(
            "flow_finished", 41, execution_id=kickoff_id, flow_name="CrewFlow", result=STATE,
            state={**STATE, "id": kickoff_id},
        ),
    ]  # fmt: skip


def flow_with_threads(kickoff_id: str = EXECUTION, inner: str = EXECUTION) -> list[Event]:
    """A flow that runs a crew and another flow in threads, where they have no parent and count their events from 1."""
    flow, child = {"flow_name": "ThreadsFlow"}, {"execution_id": inner, "flow_name": "ChildFlow"}
    crew = {"execution_id": inner, "crew_name": "TideCrew"}
    return [
        event("flow_started", 1, execution_id=kickoff_id, **flow, inputs={"topic": "tides", "id": kickoff_id}),
        event("flow_started", 1, **child, inputs={"topic": "tides"}),
        event("crew_kickoff_started", 1, **crew, inputs={"topic": "tides"}),
        event("flow_finished", 5, **child, result="checked", state={"id": inner, "topic": "tides"}),
        event("crew_kickoff_completed", 18, **crew, output={"raw": "Tides are useful."}, total_tokens=367),
        event("flow_finished", 6, execution_id=kickoff_id, **flow, result=STATE, state={**STATE, "id": kickoff_id}),
    ]


def crew_with_memory(kickoff_id: str = EXECUTION, inner: str = EXECUTION) -> list[Event]:
    """A crew of two agents that read and write a memory."""
    crew = {"crew_name": "TideCrew", "execution_id": kickoff_id}
    between = [
        one
        for number, name in enumerate(["RecallFlow", "AgentExecutor", "EncodingFlow"] * 2)
        for one in inner_flow(name, 5 + 2 * number, inner)
    ]
    return [
        event("crew_kickoff_started", 1, **crew, inputs={"topic": "tides"}),
        *between,
        event("crew_kickoff_completed", 37, **crew, output={"raw": "Tides are useful."}, total_tokens=367),
    ]


def flow_with_pause(kickoff_id: str = EXECUTION) -> list[Event]:
    """A flow that pauses for feedback, and continues after it."""
    flow = {"flow_name": "HitlFlow"}
    state = {"topic": "t", "draft": "", "id": kickoff_id}
    return [
        event("flow_started", 1, execution_id=kickoff_id, **flow, inputs={"topic": "t", "id": kickoff_id}),
        event(
            "flow_paused", 7, execution_id=kickoff_id, **flow, flow_id=kickoff_id, method_name="review", state=state,
            message="Please review.", emit=["approved", "rejected"],
        ),
        event("flow_started", 1, execution_id=AFTER_PAUSE, **flow, inputs=None),
        event("flow_finished", 11, execution_id=AFTER_PAUSE, **flow, result="bought after approved", state=state),
    ]  # fmt: skip


def failing_flow(kickoff_id: str = EXECUTION) -> list[Event]:
    """A flow that raises an error."""
    flow = {"flow_name": "FailFlow", "execution_id": kickoff_id}
    return [
        event("flow_started", 1, **flow, inputs={"topic": "tides", "id": kickoff_id}),
        event("flow_failed", 7, **flow, error="bad customer id 17"),
    ]
