"""Converts runs, events, deliveries, and attempts to rows, and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from sys import intern
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, exists, literal, null, select

from bridge.adapters.store.schema import deliveries, events, receivers, runs
from bridge.core.delivery.model import Attempt, Channel, Delivery, DeliveryState, Destination, Event, Receiver
from bridge.core.delivery.receivers import receiver_name
from bridge.core.human_input.model import NO_HUMAN_INPUT, HumanInput, Question, QuestionContent, QuestionStage
from bridge.core.json import EncodedObject, compact
from bridge.core.runs.model import Deferral, Envelope, KickoffRequest, Outcome, RestoreFrom, Run, RunError, State, Task

Values = dict[str, Any]

LARGE_INPUTS = 4096  # bytes; larger inputs stay encoded in memory
MAX_SEARCHABLE = 20  # members of a run's meta
MAX_SEARCHABLE_BYTES = 255  # of a name or a value; PostgreSQL limits what an index entry holds


def new_run(run: Run) -> Values:
    """Return all columns of a new run."""
    request, envelope = run.request, run.envelope
    return mutable_values(run) | {
        "run_id": run.run_id,
        "version": run.version,
        "crew": request.crew,
        "source": envelope.source,
        "idempotency_key": request.idempotency_key,
        "fingerprint": run.fingerprint,
        "priority": request.priority,
        "deadline": request.deadline,
        "start_by": request.start_by,
        "callback_url": request.callback_url,
        "reply_to": envelope.reply_to,
        "correlation_id": envelope.correlation_id,
        "traceparent": envelope.traceparent,
        "signature_digest": envelope.signature_digest,
        "inputs": _dump(request.inputs),
        "meta": _dump(request.meta),
        "restore_from": None if request.restore_from is None else _dump(asdict(request.restore_from)),
        "retry_of": request.retry_of,
        "accepted_at": run.accepted_at,
    }


def searchable_meta(run: Run) -> list[Values]:
    """Return rows of `run_meta`: the first scalar members of `meta` that are short and printable, as text."""
    scalars = (
        (name, value if isinstance(value, str) else compact(value).decode())
        for name, value in run.request.meta.items()
        if isinstance(value, str | int | float)
    )
    searchable = (pair for pair in scalars if all(map(_is_searchable, pair)))
    return [{"run_id": run.run_id, "name": name, "value": value} for name, value in islice(searchable, MAX_SEARCHABLE)]


def _is_searchable(text: str) -> bool:
    return text.isprintable() and len(text.encode()) <= MAX_SEARCHABLE_BYTES


def mutable_values(run: Run) -> Values:
    """Return the columns of a run that a decision may change."""
    outcome = run.outcome
    return {
        "state": run.state.value,
        "owner": run.owner,
        "due_at": run.due_at,
        "expires_at": run.expires_at,
        "attempt": run.attempt,
        "sent_at": run.sent_at,
        "auto_retries": run.auto_retries,
        "in_doubt_emitted": run.in_doubt_emitted,
        "kickoff_id": run.kickoff_id,
        "unverified": int(run.unverified),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "polls": run.polls,
        "progress": _dump(run.progress),
        "tasks": _dump([asdict(task) for task in run.tasks]) if run.tasks else None,
        "human_input": None if run.human_input == NO_HUMAN_INPUT else _dump(asdict(run.human_input)),
        "deferral": None if run.deferral is None else _dump(asdict(run.deferral)),
        "history": _history(run),
        "result": None if outcome.result is None else outcome.result.encode(),
        "result_json": _dump(outcome.result_json),
        "usage": _dump(outcome.usage),
        "error_code": outcome.error and outcome.error.code,
        "error_message": outcome.error and outcome.error.message,
    }


def run_columns(*without: str) -> list[ColumnElement[Any]]:
    """Return the columns of `runs` for `run_from_row`, some of them empty: each may be large, and many are read."""
    objects = {"inputs": literal(b"{}"), "meta": literal(b"{}")}
    return [objects.get(one.name, null()).label(one.name) if one.name in without else one for one in runs.c]


def begun_values(run: Run) -> Values:
    """Return the columns that a claim for the kickoff changes."""
    return {
        "state": run.state.value,
        "owner": run.owner,
        "due_at": run.due_at,
        "attempt": run.attempt,
        "sent_at": run.sent_at,
        "history": _history(run),
    }


def run_from_row(row: Row[Any]) -> Run:
    """Convert a row with all columns of `runs`."""
    return Run(
        run_id=row.run_id,
        request=_request_from_row(row),
        envelope=Envelope(
            row.source, row.reply_to, row.correlation_id, row.traceparent, signature_digest=row.signature_digest
        ),
        fingerprint=row.fingerprint,
        state=State(row.state),
        accepted_at=row.accepted_at,
        version=row.version,
        owner=row.owner,
        due_at=row.due_at,
        expires_at=row.expires_at,
        attempt=row.attempt,
        sent_at=row.sent_at,
        auto_retries=row.auto_retries,
        in_doubt_emitted=row.in_doubt_emitted,
        kickoff_id=row.kickoff_id,
        unverified=bool(row.unverified),
        started_at=row.started_at,
        finished_at=row.finished_at,
        polls=row.polls,
        progress=_load(row.progress),
        tasks=tuple(Task(**task) for task in _load(row.tasks) or ()),
        outcome=_outcome_from_row(row),
        human_input=_human_input_from_row(_load(row.human_input)),
        deferral=None if row.deferral is None else Deferral(**_load(row.deferral)),
        history=tuple(row.history.splitlines()) if isinstance(row.history, bytes) else (),  # never costs the run
    )


def new_event(event: Event) -> Values:
    """Return all columns of an event; the INSERT adjusts `stored_at`."""
    return {
        "event_id": event.event_id,
        "type": event.type,
        "run_id": event.run_id,
        "crew": event.crew,
        "correlation_id": event.correlation_id,
        "headers": _dump(dict(event.headers)),
        "content_type": event.content_type,
        "created_at": event.created_at,
        "stored_at": event.created_at,
        "body": event.body,
    }


def new_delivery(delivery: Delivery, owner: str | None) -> Values:
    """Return all columns of a delivery."""
    return {
        "delivery_id": delivery.delivery_id,
        "event_id": delivery.event.event_id,
        "crew": delivery.event.crew,
        "created_at": delivery.event.created_at,
        "channel": delivery.destination.channel.value,
        "target": delivery.destination.target,
        "receiver": receiver_name(delivery.destination),
        "state": delivery.state.value,
        "owner": owner,
        "attempts": delivery.attempts,
        "earlier_attempts": delivery.earlier_attempts,
        "due_at": delivery.due_at,
        "last_error": delivery.last_error,
        "delivered_at": delivery.delivered_at,
    }


def select_deliveries(*event_columns: ColumnElement[Any]) -> Select[Any]:
    """Select deliveries with their receivers and all or these columns of their events, for `delivery_from_row`."""
    requested = exists().where(runs.c.run_id == events.c.run_id, runs.c.callback_url == deliveries.c.target)
    beside = (
        receivers.c.receiver.label("known"),
        receivers.c.failing_since,
        receivers.c.paused_at,
        requested.label("requested"),
    )
    joined = deliveries.join(events).outerjoin(receivers, deliveries.c.receiver == receivers.c.receiver)
    return select(deliveries, *(event_columns or events.c), *beside).select_from(joined)


def delivery_from_row(row: Row[Any]) -> Delivery:
    """Convert a row of `select_deliveries`."""
    return Delivery(
        delivery_id=row.delivery_id,
        event=event_from_row(row),
        destination=Destination(Channel(row.channel), row.target),
        state=DeliveryState(row.state),
        attempts=row.attempts,
        earlier_attempts=row.earlier_attempts,
        due_at=row.due_at,
        last_error=row.last_error,
        delivered_at=row.delivered_at,
        receiver=None if row.known is None else Receiver(row.known, row.failing_since, row.paused_at),
        requested=row.channel != Channel.CALLBACK or row.requested,
    )


def new_attempt(delivery_id: str, attempt: Attempt) -> Values:
    """Return all columns of an attempt."""
    return {
        "delivery_id": delivery_id,
        "number": attempt.number,
        "at": attempt.at,
        "seconds": attempt.seconds,
        "error": attempt.error,
        "code": attempt.code,
        "response": attempt.response,
    }


def attempt_from_row(row: Row[Any]) -> Attempt:
    """Convert a row of `delivery_attempts`."""
    return Attempt(row.number, row.at, row.seconds, row.error, row.code, row.response)


def event_from_row(row: Row[Any]) -> Event:
    """Convert a row of `events`, or of a join with it."""
    return Event(
        event_id=row.event_id,
        type=row.type,
        body=row.body,
        content_type=row.content_type,
        created_at=row.created_at,
        run_id=row.run_id,
        crew=row.crew,
        correlation_id=row.correlation_id,
        headers=_load(row.headers),
    )


def _request_from_row(row: Row[Any]) -> KickoffRequest:
    return KickoffRequest(
        crew=intern(row.crew),  # few crews, many runs
        inputs=_inputs_from_row(row.inputs),
        meta=_load(row.meta),
        callback_url=row.callback_url,
        deadline=row.deadline,
        start_by=row.start_by,
        priority=row.priority,
        idempotency_key=row.idempotency_key,
        restore_from=None if row.restore_from is None else RestoreFrom(**_load(row.restore_from)),
        retry_of=row.retry_of,
    )


def _inputs_from_row(stored: bytes) -> Mapping[str, Any]:
    """Decode inputs; large ones are parsed only as a check, and stay encoded."""
    parsed: Values = _load(stored)
    return EncodedObject(bytes(stored)) if len(stored) > LARGE_INPUTS else parsed


def _outcome_from_row(row: Row[Any]) -> Outcome:
    error = None if row.error_code is None else RunError(row.error_code, row.error_message)
    result = None if row.result is None else row.result.decode()
    return Outcome(result, _load(row.result_json), _load(row.usage), error)


def _human_input_from_row(stored: Values | None) -> HumanInput:
    if stored is None:
        return NO_HUMAN_INPUT
    return HumanInput(
        question=None if stored["question"] is None else _question_from_row(stored["question"]),
        known_task_ids=tuple(stored["known_task_ids"]),
        accepted_answers=tuple((key, content) for key, content in stored["accepted_answers"]),
        aliases=tuple(stored["aliases"]),
        deadline_extension=stored["deadline_extension"],
    )


def _question_from_row(stored: Values) -> Question:
    asked = stored["content"] | {"options": tuple(stored["content"]["options"])}
    return Question(**stored | {"content": QuestionContent(**asked), "stage": QuestionStage(stored["stage"])})


def shift_question_times(stored: bytes, seconds: float) -> bytes | None:
    """Return the column `human_input` with the times of its question moved back by `seconds`."""
    human_input = _load(stored)
    if human_input["question"] is not None:
        times = {name: human_input["question"][name] for name in ("asked_at", "answer_by", "sent_at")}
        human_input["question"] |= {name: at - seconds for name, at in times.items() if at is not None}
    return _dump(human_input)


def _history(run: Run) -> bytes | None:
    """Return one JSON object per line, none of which is parsed here."""
    return b"\n".join(run.history) or None


def _dump(value: Any) -> bytes | None:
    if isinstance(value, EncodedObject):
        return value.text
    return None if value is None else compact(value)


def _load(value: bytes | None) -> Any:
    """Use the standard library, because faster parsers round integers beyond 64 bits."""
    return None if value is None else json.loads(value)
