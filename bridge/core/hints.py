"""What the crew API's own webhooks say: hints, never the truth.

They come late, twice, out of order or not at all, and whoever knows the URL can send them. So a hint may bring an
execution's id to a run that lost it, and make us look at the status now; what the status then says decides. The one
exception is the crew webhook, which exists only for success: its result is taken where the status knows nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

from bridge.core import answers

_INNER_FLOW = "AgentExecutor"  # every agent's run is wrapped in a flow of this name, whose end is not the run's
_STARTS = frozenset({"crew_kickoff_started", "flow_started"})
_ENDS = frozenset({"crew_kickoff_completed", "crew_kickoff_failed", "flow_finished", "flow_failed"})
STREAMED = ("crew_kickoff_started", "crew_kickoff_completed", "crew_kickoff_failed", "flow_started", "flow_finished")


class Kind(StrEnum):
    """The last part of a webhook's URL."""

    CREW = "crew"
    TASK = "task"
    STEP = "step"
    HUMAN = "human"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Hint:
    """What a webhook may tell: the execution's id, that a look is worth it now, and a crew webhook's result."""

    kickoff_id: str | None = None
    worth_a_look: bool = False
    testimony: answers.Succeeded | None = None


def read(kind: Kind, body: Any) -> Hint:
    """Read one webhook's body, which may be anything."""
    if kind is Kind.STREAM:
        return _read_stream(list(_envelopes(body)))
    content = body if isinstance(body, dict) else {}
    kickoff_id = _id_in(content, "kickoff_id", "execution_id", "executionId")
    match kind:
        case Kind.CREW:
            return Hint(kickoff_id, worth_a_look=True, testimony=answers.read_crew_webhook(content))
        case Kind.HUMAN:
            return Hint(kickoff_id, worth_a_look=True)
        case Kind.TASK | Kind.STEP:
            return Hint(kickoff_id)
        case _:
            assert_never(kind)


def believe(answer: answers.StatusAnswer, testimony: answers.Succeeded | None) -> answers.StatusAnswer:
    """The status where it knows the execution, else what the crew webhook said."""
    knows_nothing = isinstance(answer, answers.NotFound | answers.NoAnswer)
    return testimony if knows_nothing and testimony is not None else answer


def _read_stream(streamed: list[Mapping[str, Any]]) -> Hint:
    """The first event names the top-level execution, if it is a start; inner executions have ids of their own."""
    outer = [event for event in streamed if not _is_inner(event)]
    worth_a_look = any(_type(event) in _ENDS for event in outer)
    if not outer:
        return Hint()
    first = min(outer, key=_sequence)
    kickoff_id = _id_in(first, "execution_id") if _type(first) in _STARTS else None
    return Hint(kickoff_id, worth_a_look)


def _envelopes(body: Any) -> Iterator[Mapping[str, Any]]:
    """Events come in an envelope, in a bare list, or alone."""
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
    return (number if isinstance(number, int | float) else float("inf"), str(event.get("timestamp")))


def _id_in(content: Mapping[str, Any], *names: str) -> str | None:
    found = (content.get(name) for name in names)
    return next((str(value) for value in found if answers.usable_kickoff_id(value)), None)
