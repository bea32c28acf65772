"""Read crew webhooks, which trigger polls and never decide the outcome of a run.

They arrive late, twice, out of order, or not at all, and anyone who knows the URL can send them. So a webhook can give
a run the id of its execution, and trigger a poll; the status then decides. The one exception is the webhook of kind
`crew`, which is sent only on success: its result counts where the status says NOT FOUND.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from bridge.core.crew import responses
from bridge.core.human_input.model import QuestionContent
from bridge.core.numbers import read_number

_INNER_FLOWS = frozenset({"AgentExecutor", "EncodingFlow", "RecallFlow"})  # each agent, and its memory, is a flow
_STARTS = frozenset({"crew_kickoff_started", "flow_started"})
_ENDS = frozenset({"crew_kickoff_completed", "crew_kickoff_failed", "flow_finished", "flow_failed"})
_EXECUTION = ("kickoff_id", "execution_id", "executionId", "kickoffId")
_NESTS = ("data", "body", "payload", "callback_info", "inputs", "meta")
MAX_OUTPUT = 65_536  # characters shown to a human
MAX_TASK_NAME = 200  # characters; stored for each run in progress
STREAMED = tuple(sorted(_STARTS | _ENDS))
"""The types of streamed events that the bridge subscribes to."""


class Kind(StrEnum):
    """The kind of a webhook: the last segment of its URL."""

    CREW = "crew"
    TASK = "task"
    STEP = "step"
    HUMAN = "human"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class CrewWebhook:
    """The content of a webhook: the execution's id, an end, a result, a question, or a task."""

    kickoff_id: str | None = None
    certain: bool = True
    """Whether the id is certainly not that of an inner execution."""
    ended: bool = False
    """Whether the execution has ended, or may have."""
    resumed: bool = False
    """Whether a flow continues after a pause."""
    webhook_result: responses.Succeeded | None = None
    question: QuestionContent | None = None
    task: str | None = None
    """The name of a completed task."""

    @property
    def poll_now(self) -> bool:
        """Whether the status may have changed."""
        return self.ended or self.resumed or self.question is not None


@dataclass(frozen=True, slots=True)
class TasksDone:
    """The number of task webhooks of a run, and the task that the last of them named.

    Nothing distinguishes a repeated webhook from two tasks of one name, so each one counts.
    """

    count: int
    last: str


def read(kind: Kind, body: Any, *, is_flow: bool | None = None, state_id: Any = None) -> CrewWebhook:
    """Read the body of a webhook, which is untrusted.

    `is_flow`: whether the deployment is a flow; None: unknown. `state_id`: the id that the request set for the state of
    a flow; None: its kickoff id is the id of its state.
    """
    if kind is Kind.STREAM and body is None:
        return CrewWebhook(ended=True)  # an event that cannot be read may be the end
    if kind is Kind.STREAM:
        return _read_stream([event for event in _envelopes(body) if _is_outer(event, is_flow=is_flow)], state_id)
    content = body if isinstance(body, dict) else {}
    kickoff_id = _id_in(content, *_EXECUTION)
    match kind:
        case Kind.CREW:
            return CrewWebhook(kickoff_id, ended=True, webhook_result=responses.read_crew_webhook(content))
        case Kind.HUMAN:
            return _read_question(content)
        case Kind.TASK:
            return CrewWebhook(kickoff_id, task=(_text_in(content, "name") or "a task")[:MAX_TASK_NAME])
        case Kind.STEP:
            return CrewWebhook(kickoff_id)
        case _:
            assert_never(kind)


def shorten(kind: Kind, beginning: Mapping[str, Any]) -> Any:
    """Return the content of a webhook of which only the beginning was read, without what may be incomplete."""
    if kind is Kind.STREAM:
        return beginning or None
    names = _EXECUTION if kind is Kind.CREW else beginning  # a result must be complete
    return {name: text for name in names if isinstance(text := beginning.get(name), str)} or None


def with_webhook_result(
    response: responses.StatusResponse, webhook_result: responses.Succeeded, *, long_missing: bool
) -> responses.StatusResponse:
    """Return the status, or the webhook result once the execution was NOT FOUND for so long that it counts as lost.

    Nothing less is sufficient: anyone who knows the URL could end a run at the first poll that times out, or that is
    made before the API knows the execution.
    """
    return webhook_result if long_missing and isinstance(response, responses.NotFound) else response


def add_task(before: TasksDone | None, name: str, stored: int) -> TasksDone:
    """Count one more task webhook; `stored`: the finished tasks of the run, some from before a restart."""
    return TasksDone(max(1 if before is None else before.count + 1, stored), name)


def with_task_progress(
    response: responses.StatusResponse, done: TasksDone | None, known: int | None
) -> responses.StatusResponse:
    """Return the status, with progress from task webhooks if it reports none itself.

    `known`: the number of finished tasks that is known already; fewer webhooks mean that some have been lost.
    """
    if done is None or not isinstance(response, responses.Running) or response.progress is not None:
        return response
    if known is not None and done.count <= known:
        return response
    return responses.Running(
        {"unit": "task", "completed": done.count, "total": None, "current": None, "last": done.last}
    )


def _read_question(content: Mapping[str, Any]) -> CrewWebhook:
    """Read a question from members in snake or camel case, at the top or nested (contract, 6.4)."""
    nested = [content, *(inner for name in _NESTS if isinstance(inner := content.get(name), dict))]
    kickoff_id = _first(_id_in(place, *_EXECUTION) for place in nested)
    output = _first(_text_in(place, "task_output", "taskOutput", "output") for place in nested)
    task_id = _first(_id_in(place, "task_id", "taskId") for place in nested)
    if task_id == kickoff_id:
        task_id = None  # old webhooks put the execution's id here
    return CrewWebhook(kickoff_id, question=QuestionContent(task_id, output))


def _read_stream(outer: list[Mapping[str, Any]], state_id: Any) -> CrewWebhook:
    """Read the streamed events of the execution itself; the first one that names it counts, certain ones before others.

    Without `parent_event_id`, only the first event of a batch can name it, because the others may be inner ones.
    """
    outer.sort(key=_position)
    naming = (event for event in outer if event is outer[0] or _has_parent_member(event))
    named = [found for event in naming if (found := _execution_of(event, state_id)) is not None]
    kickoff_id, certain = min(named, key=lambda found: not found[1], default=(None, True))
    ended, resumed = any(_type(event) in _ENDS for event in outer), any(map(_is_resume, outer))
    return CrewWebhook(kickoff_id, certain, ended=ended, resumed=resumed)


def _execution_of(event: Mapping[str, Any], state_id: Any) -> tuple[str, bool] | None:
    """Return the kickoff id that a start or an end names, and whether it is certain.

    After a pause, a flow has another `execution_id`; the id of its state is the kickoff id, unless the request set it.
    Certain is only a start: of a crew, or of a flow with its state's id, which an inner flow does not have.
    """
    type_, data = _type(event), _data(event)
    if type_ not in _STARTS | _ENDS or _is_resume(event):
        return None
    content = data.get("inputs" if type_ == "flow_started" else "state")
    found = _id_in(content, "id") if type_.startswith("flow_") and isinstance(content, dict) else None
    has_own_state = found is not None and state_id in (None, found)
    certain = type_ == "crew_kickoff_started" or (type_ == "flow_started" and has_own_state)
    kickoff_id = found if found is not None and state_id is None else _id_in(event, "execution_id")
    return None if kickoff_id is None else (kickoff_id, certain and _has_parent_member(event))


def _envelopes(body: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the events of an envelope, a bare list, or a single event."""
    inside = body.get("events", [body]) if isinstance(body, dict) else body
    yield from (event for event in inside if isinstance(event, dict)) if isinstance(inside, list) else ()


def _type(event: Mapping[str, Any]) -> str:
    return str(event.get("type"))


def _data(event: Mapping[str, Any]) -> Mapping[str, Any]:
    data = event.get("data")
    return data if isinstance(data, dict) else {}


def _is_outer(event: Mapping[str, Any], *, is_flow: bool | None) -> bool:
    """Return whether an event is about the execution itself: not an inner flow or crew, a task, or a method.

    An inner execution has a parent, except in older libraries, which report none, and if it runs in a thread of its
    own. So a crew inside a flow, a flow inside a crew, and the flows of the library are inner in any case.
    """
    data, of_crew = _data(event), _type(event).startswith("crew_")
    return (
        data.get("parent_event_id") is None
        and data.get("flow_name") not in _INNER_FLOWS
        and (is_flow is None or of_crew is not is_flow)
    )


def _has_parent_member(event: Mapping[str, Any]) -> bool:
    return "parent_event_id" in _data(event)


def _is_resume(event: Mapping[str, Any]) -> bool:
    """Return whether an event is the second start of a flow, after a pause: it has no inputs."""
    return _type(event) == "flow_started" and _data(event).get("inputs", {}) is None


def _position(event: Mapping[str, Any]) -> tuple[float, str]:
    number = _data(event).get("emission_sequence")
    known = None if isinstance(number, str) else read_number(number)
    return (math.inf if known is None else known, str(event.get("timestamp")))


def _id_in(content: Mapping[str, Any], *names: str) -> str | None:
    found = (content.get(name) for name in names)
    return next((str(value) for value in found if responses.usable_kickoff_id(value)), None)


def _text_in(content: Mapping[str, Any], *names: str) -> str | None:
    found = (content.get(name) for name in names)
    return next((responses.clean_text(value, MAX_OUTPUT) for value in found if isinstance(value, str) and value), None)


def _first(found: Iterable[str | None]) -> str | None:
    return next((value for value in found if value is not None), None)
