"""Build CloudEvents 1.0 in structured mode, and one delivery per destination.

Ids are derived from the run and the kind of event, so that an event has the same id after any crash. The bytes are
built once and stored; every attempt sends the stored bytes.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bridge.core import json as strict_json
from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery.model import Channel, Delivery, Destination, Event, Receiver
from bridge.core.delivery.routing import routing_key
from bridge.core.human_input.model import Question, QuestionStage
from bridge.core.runs.model import CREW_NAME, Decision, Run, RunError, Task

CONTENT_TYPE = "application/cloudevents+json"
IN_DOUBT = "run.in_doubt"
WAITING_FOR_HUMAN = "run.waiting_for_human"
RESUME_UNCONFIRMED = "run.resume_unconfirmed"
LATE_RESULT = "run.late_result"
REJECTED = "request.rejected"
DEAD_LETTER = "dead_letter"
PAUSED = "delivery.paused"
_RESULT = ("result", "result_json")


def with_event(run: Run, type_: str, policy: CrewPolicy, now: float, sequence: int = 1) -> Decision:
    """Return the run unchanged, with an event about it; `sequence` numbers events of a kind that may be repeated."""
    event = _run_event(run, type_, policy, now, sequence)
    targets = _destinations(run, type_, policy)
    deliveries = tuple(_delivery(event, index, target, now) for index, target in enumerate(targets, start=1))
    return Decision(run, deliveries, () if deliveries else (event,))


def run_document(run: Run) -> dict[str, Any]:
    """Return the public view of a run: the `data` of its events, and part of `GET /v1/runs/{run_id}`."""
    outcome = run.outcome
    return (
        {
            "run_id": run.run_id,
            "crew": run.crew,
            "kickoff_id": run.kickoff_id,
            "state": run.state.value,
            "result": outcome.result,
            "result_json": outcome.result_json,
            "error": _error(outcome.error),
            "meta": run.request.meta,
            "idempotency_key": run.request.idempotency_key,
            "usage": outcome.usage,
            "progress": run.progress,
            "tasks": [_task(task) for task in run.tasks],
            "accepted_at": timestamp(run.accepted_at),
            "started_at": timestamp(run.started_at),
            "finished_at": timestamp(run.finished_at),
            "polls": run.polls,
        }
        | _restore_from(run)
        | _open_question(run)
    )


def result_document(run: Run) -> dict[str, Any]:
    """Return the complete result alone, to which the `dataref` of an event links."""
    document = run_document(run)
    return {name: document[name] for name in ("run_id", "state", *_RESULT)}


def rejected(event_id: str, refusal: Mapping[str, str | None], correlation_id: str | None, now: float) -> Event:
    """Return the event for the `reply_to` of a refused message.

    `refusal` becomes its `data`: `code`, `message`, `crew`, `idempotency_key`. Without a `correlation_id`, the
    idempotency key is the correlation id.
    """
    crew = refusal["crew"]
    if crew is not None and not CREW_NAME.fullmatch(crew):
        crew = None  # untrusted text, neither a URI nor safe in every database; `data` keeps it unchanged
    source = "/requests" if crew is None else f"/crews/{crew}"
    body = _cloud_event(event_id, source, REJECTED, event_id, now, refusal)
    correlation_id = correlation_id or refusal["idempotency_key"]
    return Event(event_id, REJECTED, body, CONTENT_TYPE, now, crew=crew, correlation_id=correlation_id)


def dead_letter(
    event_id: str, body: bytes, content_type: str | None, headers: Mapping[str, str | int | float | bool], now: float
) -> Event:
    """Return the event that sends a refused message to the dead queue, with its body unchanged."""
    return Event(event_id, DEAD_LETTER, body, content_type or "", now, headers=headers)


def receiver_paused(delivery: Delivery, receiver: Receiver, template: str, now: float) -> Delivery:
    """Return the notice that a receiver has been paused; its id is derived from the receiver and the pause.

    `template`: of its routing key.
    """
    digest = hashlib.sha256(receiver.name.encode()).hexdigest()[:16]
    event_id = f"paused-{digest}-{int(receiver.failing_since or now)}"
    crew = delivery.event.crew or "requests"
    data = {
        "receiver": receiver.name,
        "crew": delivery.event.crew,
        "failing_since": timestamp(receiver.failing_since),
        "paused_at": timestamp(receiver.paused_at),
        "last_error": delivery.last_error,
    }
    body = _cloud_event(event_id, f"/crews/{crew}", PAUSED, receiver.name, now, data)
    event = Event(event_id, PAUSED, body, CONTENT_TYPE, now, crew=delivery.event.crew)
    return _delivery(event, 1, Destination(Channel.EXCHANGE, routing_key(template, crew, PAUSED, {})), now)


def timestamp(at: float | None) -> str | None:
    """Format seconds since the epoch as RFC 3339 in UTC with milliseconds."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _run_event(run: Run, type_: str, policy: CrewPolicy, now: float, sequence: int) -> Event:
    event_id = f"{run.run_id}-{type_.removeprefix('run.')}" + (f"-{sequence}" if sequence > 1 else "")
    headers = {"run_id": run.run_id, "crew": run.crew, "kickoff_id": run.kickoff_id}
    headers["traceparent"] = run.envelope.traceparent
    return Event(
        event_id=event_id,
        type=type_,
        body=_body(event_id, run, type_, policy, now),
        content_type=CONTENT_TYPE,
        created_at=now,
        run_id=run.run_id,
        crew=run.crew,
        correlation_id=run.envelope.correlation_id or run.request.idempotency_key,
        headers={name: value for name, value in headers.items() if value is not None},
    )


def _body(event_id: str, run: Run, type_: str, policy: CrewPolicy, now: float) -> bytes:
    """Return the event's bytes; if they exceed `max_event_bytes`, the outputs of tasks are omitted, then the result.

    A link replaces the result. A late result is always embedded: it is stored nowhere else, because an ended run does
    not change.
    """
    source, data = f"/crews/{run.crew}", run_document(run)
    body = _cloud_event(event_id, source, type_, run.run_id, now, data)
    if len(body) > policy.max_event_bytes and run.tasks:
        data["tasks"] = [task | {"output": None} for task in data["tasks"]]
        body = _cloud_event(event_id, source, type_, run.run_id, now, data)
    has_result = any(data[name] is not None for name in _RESULT)
    if len(body) <= policy.max_event_bytes or not has_result or type_ == LATE_RESULT:
        return body
    link = {"dataref": f"{policy.api_url}/v1/runs/{run.run_id}/result"}
    return _cloud_event(event_id, source, type_, run.run_id, now, data | dict.fromkeys(_RESULT), link)


def _cloud_event(
    event_id: str,
    source: str,
    type_: str,
    subject: str,
    now: float,
    data: Mapping[str, Any],
    extensions: Mapping[str, str] | None = None,
) -> bytes:
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": type_,
        "subject": subject,
        "time": timestamp(now),
        "datacontenttype": "application/json",
        **(extensions or {}),
        "data": data,
    }
    return strict_json.compact(event)


def _destinations(run: Run, type_: str, policy: CrewPolicy) -> list[Destination]:
    """Return the results exchange, the reply queue, and each callback URL once."""
    found, kind = [], type_.removeprefix("run.")
    if policy.results_exchange:
        key = routing_key(policy.routing_key, run.crew, kind, run.request.meta)
        found.append(Destination(Channel.EXCHANGE, key))
    if run.envelope.reply_to is not None:
        found.append(Destination(Channel.QUEUE, run.envelope.reply_to))
    permanent = (destination.url for destination in policy.destinations if destination.accepts(kind))
    urls = dict.fromkeys((run.request.callback_url, policy.callback_url, *permanent))
    return found + [Destination(Channel.CALLBACK, url) for url in urls if url is not None]


def _delivery(event: Event, index: int, destination: Destination, now: float) -> Delivery:
    return Delivery(f"{event.event_id}-{index}", event, destination, due_at=now)


def _restore_from(run: Run) -> dict[str, Any]:
    """Return the member `restore_from` as requested, if it was; whether the state was restored is unknown."""
    asked = run.request.restore_from
    named = {} if asked is None else {"run_id": asked.run_id, "kickoff_id": asked.kickoff_id}
    return {"restore_from": {name: value for name, value in named.items() if value}} if named else {}


def _open_question(run: Run) -> dict[str, Any]:
    """Return the member `question` until its answer is confirmed; the callback URL is a secret and omitted."""
    question = run.human_input.question
    unconfirmed = question is not None and question.stage is not QuestionStage.CONFIRMED and not run.final
    return {"question": _question(question)} if question is not None and unconfirmed else {}


def _question(question: Question) -> dict[str, Any]:
    content = question.content
    return {
        "number": question.number,
        "task_id": content.task_id,
        "output": content.output,
        "message": content.message,
        "options": list(content.options),
        "asked_at": timestamp(question.asked_at),
        "stage": question.stage.value,
        "problem": question.problem,
    }


def _task(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "agent": task.agent,
        "output": task.output,
        "finished_at": timestamp(task.finished_at),
    }


def _error(error: RunError | None) -> dict[str, str] | None:
    return None if error is None else {"code": error.code, "message": error.message}
