"""Events as a bridge sends them, and their signed callbacks, for unit tests of a receiver."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import uuid_utils

from bridge import events as typed
from bridge.adapters.callbacks.signing import build_signer
from bridge.adapters.clock import wall_clock
from bridge.config.placeholders import CALLBACK_SECRET
from bridge.core.delivery import events
from bridge.core.human_input.model import HumanInput, Question, QuestionContent
from bridge.core.runs import state_machine
from bridge.core.runs.model import FINAL_STATES, Envelope, KickoffRequest, Outcome, Run, RunError, State

_TYPES = [get_args(model.model_fields["type"].annotation)[0] for model in get_args(typed.KnownEvent)]
_STATES = {f"run.{state}": state for state in State} | {"run.late_result": State.TIMED_OUT}
_ASKING = {"run.waiting_for_human", "run.resume_unconfirmed"}
_OTHERS: dict[str, dict[str, Any]] = {
    "request.rejected": {"code": "unknown_crew", "message": "no such crew", "crew": None, "idempotency_key": None},
    "delivery.paused": {"receiver": "https://shop.example.com:443", "crew": "research", "last_error": "HTTP 500"},
}
"""The types that are not about a run, and their `data` without times."""
_ERRORS = {
    State.FAILED: RunError("execution_failed", "ValueError: too hot"),
    State.TIMED_OUT: RunError("deadline_exceeded", "the execution had not ended at the deadline"),
    State.CANCELLED: RunError("cancelled", "cancelled by the producer"),
}


@dataclass(frozen=True, slots=True)
class Callback:
    """The POST that a receiver gets: its headers, and its body."""

    headers: dict[str, str]
    body: bytes


def make_event(type_: str = "run.succeeded", /, **data: object) -> dict[str, Any]:
    """Return an event of this type as a bridge sends it, with these members of its `data`.

    Raise `ValueError` for a type or a member that does not exist, or a value that the member cannot have.
    """
    if type_ not in _TYPES:
        raise ValueError(f"there is no event type {type_!r}; use {', '.join(_TYPES)}")
    now = wall_clock()
    content = _run_data(type_, now) if type_.startswith("run.") else _other_data(type_, now)
    members = typed.RunData.model_fields if type_.startswith("run.") else content
    if unknown := data.keys() - members:
        raise ValueError(f"`data` of {type_} has no member {min(unknown)!r}")
    content |= data
    subject = content.get("run_id", content.get("receiver", "0"))
    event = {
        "specversion": "1.0",
        "id": f"{subject}-{type_.removeprefix('run.')}",
        "source": f"/crews/{content['crew'] or 'requests'}",
        "type": type_,
        "subject": subject,
        "time": events.timestamp(now),
        "datacontenttype": "application/json",
        "data": content,
    }
    typed.parse(event)
    return event


def make_callback(
    event: Mapping[str, Any] | None = None, secret: str = CALLBACK_SECRET, at: float | None = None
) -> Callback:
    """Return the signed POST of an event (by default, `make_event()`).

    `secret`: `whsec_…` or `whsk_…`, as in the settings. `at`: epoch seconds of its signature, by default now; receivers
    refuse one that is too old.
    """
    event = make_event() if event is None else event
    body, now = json.dumps(event).encode(), int(wall_clock() if at is None else at)
    headers = {
        "Content-Type": events.CONTENT_TYPE,
        "webhook-id": event["id"],
        "webhook-timestamp": str(now),
        "webhook-signature": build_signer(secret)(event["id"], now, body),
    }
    return Callback(headers, body)


def _run_data(type_: str, now: float) -> dict[str, Any]:
    request = KickoffRequest("research", {"topic": "tides"}, idempotency_key="order-42")
    run = state_machine.accept(request, Envelope("client/test"), str(uuid_utils.uuid7()), now - 60)
    return events.run_document(_in_state(run, type_, now))


def _in_state(run: Run, type_: str, now: float) -> Run:
    """Return the run as it is when an event of this type is emitted."""
    run = replace(run, kickoff_id="7d3b7ab4-6a0e-4d05-a8a4-1d3b8f0c5e55", started_at=now - 50, polls=3)
    if type_ in _ASKING:
        question = Question(1, now, content=QuestionContent("9d6d6a0e", "A draft. Approve?"))
        return replace(run, state=State.WAITING_FOR_HUMAN, human_input=HumanInput(question=question))
    state = _STATES.get(type_, State.RUNNING)
    run = replace(run, state=state, finished_at=now if state in FINAL_STATES else None)
    if type_ in {"run.succeeded", "run.late_result"}:
        return replace(run, outcome=Outcome("Tides are useful."))
    return replace(run, outcome=Outcome(error=_ERRORS[state])) if state in _ERRORS else run


def _other_data(type_: str, now: float) -> dict[str, Any]:
    paused = {"failing_since": events.timestamp(now - 432_000), "paused_at": events.timestamp(now)}
    return _OTHERS[type_] | (paused if type_ == "delivery.paused" else {})
