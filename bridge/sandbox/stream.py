"""Build the POSTs of the streaming webhook: number events, name their scope, and batch them (crew API contract 6.5).

The envelope has no `meta`. The members that all events share are those of crewai 1.15.30, captured from a real crew:
`parent_event_id` is null only for the start and the end of the run itself. Events of an inner execution carry its
execution ID, and those of a flow another one after each pause. Each part of a run between two pauses counts its events
from 1 again.

An inner crew or flow that runs in a thread has no parent either, and counts its events from 1. Older libraries do not
have that member at all.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Literal

from bridge.sandbox.execution import Execution, Kind
from bridge.sandbox.hooks import Stream
from bridge.sandbox.milestones import Milestone
from bridge.sandbox.stream_events import CLOSES, Emitted, emitted

Parents = Literal["reported", "threads", "absent"]

BATCH = 4
"""The maximum number of events per POST without `realtime` (the number observed live)."""

_COMMON = dict.fromkeys(
    ("source_fingerprint", "source_type", "fingerprint_metadata", "task_id", "task_name", "agent_id", "agent_role")
)

_Event = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Batch:
    """The body of one POST, and the time of its last event."""

    at: float
    body: Mapping[str, list[_Event]]


def batches(
    execution: Execution, kind: Kind, stream: Stream, path: Iterable[Milestone], *, nested: bool, parents: Parents
) -> list[Batch]:
    """Return the POSTs for these milestones, with the subscribed events; `nested`: with those of inner executions."""
    events = _events(execution, kind, path, nested=nested, parents=parents)
    wanted = [event for event in events if event[1]["type"] in stream.events]
    size = 1 if stream.realtime else BATCH
    groups = [wanted[index : index + size] for index in range(0, len(wanted), size)]
    return [Batch(group[-1][0], {"events": [event for _, event in group]}) for group in groups]


class _Scopes:
    """The open events, from the outermost to the innermost: an event that closes one belongs to the scope around it."""

    def __init__(self, run: str | None) -> None:
        self._open: list[tuple[str, object, str]] = []
        self._run = run  # the start of the run, if it lies before a pause

    def place(self, event: Emitted, event_id: str) -> tuple[str | None, str | None]:
        """Return the parent of the event and the start that it ends, each by its ID; open or close its scope."""
        started = self._close(event)
        parent = self._open[-1][2] if self._open else self._run
        if event.outermost:
            parent = None
        if event.type in CLOSES.values():
            self._open.append((event.type, event.scope, event_id))
        return parent, started

    def _close(self, event: Emitted) -> str | None:
        wanted = CLOSES.get(event.type), event.scope
        for index in reversed(range(len(self._open))):
            if self._open[index][:2] == wanted:
                event_id = self._open[index][2]
                del self._open[index:]
                return event_id
        return self._run if event.outermost else None


def _events(
    execution: Execution, kind: Kind, path: Iterable[Milestone], *, nested: bool, parents: Parents
) -> Iterator[tuple[float, _Event]]:
    part = execution.questions_answered + execution.repeats
    scopes = _Scopes(execution.derived_id("event 0.1") if part and kind == "crew" else None)
    happened = ((milestone.at, event) for milestone in path for event in emitted(execution, kind, milestone, nested))
    previous, numbers = None, dict[str | None, Iterator[int]]()
    for number, (at, event) in enumerate(happened, start=1):
        event_id = execution.derived_id(f"event {part}.{number}")
        parent, started = scopes.place(event, event_id)
        thread = event.inner if parents == "threads" else None
        if thread is not None and event.in_thread:
            parent = None
        moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
        data = {
            "timestamp": moment.replace("+00:00", "Z"),
            "type": event.type,
            **_COMMON,
            "event_id": event_id,
            **({} if parents == "absent" else {"parent_event_id": parent}),
            "previous_event_id": previous,
            "triggered_by_event_id": None,
            "started_event_id": started,
            "emission_sequence": next(numbers.setdefault(thread, count(1))),
            **event.data,
        }
        execution_id = _execution_id(execution, kind, event)
        yield at, {"id": event_id, "execution_id": execution_id, "timestamp": moment, "type": event.type, "data": data}
        previous = event_id


def _execution_id(execution: Execution, kind: Kind, event: Emitted) -> str:
    if event.inner is not None:
        return execution.derived_id(event.inner)
    if kind == "flow" and execution.questions_answered:
        return execution.derived_id(f"after pause {execution.questions_answered}")
    return execution.kickoff_id
