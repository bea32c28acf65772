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

_INNER_FLOW = "AgentExecutor"  # each agent runs in a flow of this name, whose end is not the end of the run
_STARTS = frozenset({"crew_kickoff_started", "flow_started"})
_ENDS = frozenset({"crew_kickoff_completed", "crew_kickoff_failed", "flow_finished", "flow_failed"})
_EXECUTION = ("kickoff_id", "execution_id", "executionId", "kickoffId")
_NESTS = ("data", "body", "payload", "callback_info", "inputs", "meta")
MAX_OUTPUT = 65_536  # characters shown to a human
MAX_TASK_NAME = 200  # characters; stored for each run in progress
STREAMED = ("crew_kickoff_started", "crew_kickoff_completed", "crew_kickoff_failed", "flow_started", "flow_finished")


class Kind(StrEnum):
    """The kind of a webhook: the last segment of its URL."""

    CREW = "crew"
    TASK = "task"
    STEP = "step"
    HUMAN = "human"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class CrewWebhook:
    """The content of a webhook: the execution's id, whether to poll now, a result, a question, or a task."""

    kickoff_id: str | None = None
    poll_now: bool = False
    webhook_result: responses.Succeeded | None = None
    question: QuestionContent | None = None
    task: str | None = None
    """The name of a completed task."""

    @property
    def is_relevant_to_tracked_run(self) -> bool:
        """Whether the webhook matters to a tracked run."""
        return self.poll_now or self.question is not None or self.task is not None


@dataclass(frozen=True, slots=True)
class TasksDone:
    """The number of task webhooks of a run, and the task that the last of them named.

    Nothing distinguishes a repeated webhook from two tasks of one name, so each one counts.
    """

    count: int
    last: str


def read(kind: Kind, body: Any) -> CrewWebhook:
    """Read the body of a webhook, which is untrusted."""
    if kind is Kind.STREAM:
        return _read_stream(list(_envelopes(body)))
    content = body if isinstance(body, dict) else {}
    kickoff_id = _id_in(content, *_EXECUTION)
    match kind:
        case Kind.CREW:
            return CrewWebhook(kickoff_id, poll_now=True, webhook_result=responses.read_crew_webhook(content))
        case Kind.HUMAN:
            return _read_question(content)
        case Kind.TASK:
            return CrewWebhook(kickoff_id, task=(_text_in(content, "name") or "a task")[:MAX_TASK_NAME])
        case Kind.STEP:
            return CrewWebhook(kickoff_id)
        case _:
            assert_never(kind)


def with_webhook_result(
    response: responses.StatusResponse, webhook_result: responses.Succeeded | None, *, long_missing: bool
) -> responses.StatusResponse:
    """Return the status, or the webhook result once the execution was NOT FOUND for so long that it counts as lost.

    Nothing less is sufficient: anyone who knows the URL could end a run at the first poll that times out, or that is
    made before the API knows the execution.
    """
    return (
        webhook_result
        if long_missing and isinstance(response, responses.NotFound) and webhook_result is not None
        else response
    )


def add_task(before: TasksDone | None, name: str) -> TasksDone:
    """Count one more task webhook."""
    return TasksDone(1 if before is None else before.count + 1, name)


def with_task_progress(response: responses.StatusResponse, done: TasksDone | None) -> responses.StatusResponse:
    """Return the status, with progress from task webhooks if it reports none itself."""
    if done is None or not isinstance(response, responses.Running) or response.progress is not None:
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
    return CrewWebhook(kickoff_id, poll_now=True, question=QuestionContent(task_id, output))


def _read_stream(streamed: list[Mapping[str, Any]]) -> CrewWebhook:
    """Read streamed events. The first names the top-level execution, if it is a start; inner ones have other ids."""
    outer = [event for event in streamed if not _is_inner(event)]
    poll_now = any(_type(event) in _ENDS for event in outer)
    if not outer:
        return CrewWebhook()
    first = min(outer, key=_sequence)
    kickoff_id = _id_in(first, "execution_id") if _type(first) in _STARTS else None
    return CrewWebhook(kickoff_id, poll_now)


def _envelopes(body: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the events of an envelope, a bare list, or a single event."""
    inside = body.get("events", [body]) if isinstance(body, dict) else body
    yield from (event for event in inside if isinstance(event, dict)) if isinstance(inside, list) else ()


def _type(event: Mapping[str, Any]) -> str:
    return str(event.get("type"))


def _is_inner(event: Mapping[str, Any]) -> bool:
    data = event.get("data")
    return isinstance(data, dict) and data.get("flow_name") == _INNER_FLOW


def _sequence(event: Mapping[str, Any]) -> tuple[float, str]:
    data = event.get("data")
    number = data.get("emission_sequence") if isinstance(data, dict) else None
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
