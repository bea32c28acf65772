"""Converts runs, events, deliveries, and attempts to rows, and back."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from operator import attrgetter
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


class _Same:
    """Columns that have the names of a value's attributes, and contain them unchanged."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self._read = attrgetter(*names)

    def of(self, value: Any) -> Values:
        """Return these columns of a value, or these attributes of a row."""
        return dict(zip(self.names, self._read(value), strict=False))


_ACCEPTED = _Same("run_id", "version", "fingerprint", "accepted_at")
_REQUEST = _Same("callback_url", "deadline", "start_by", "priority", "idempotency_key", "retry_of")
_ENVELOPE = _Same("source", "reply_to", "correlation_id", "traceparent", "signature_digest")
_BEGUN = _Same("owner", "due_at", "attempt", "sent_at")
_MUTABLE = _Same(
    *_BEGUN.names, "expires_at", "auto_retries", "in_doubt_emitted", "kickoff_id", "started_at", "finished_at", "polls"
)
_RUN = _Same(*_ACCEPTED.names, *_MUTABLE.names)
_EVENT = _Same("event_id", "type", "run_id", "crew", "correlation_id", "content_type", "created_at", "body")
_DELIVERY = _Same("delivery_id", "attempts", "earlier_attempts", "due_at", "last_error", "delivered_at")
_ATTEMPT = _Same("number", "at", "seconds", "error", "code", "response")


def new_run(run: Run) -> Values:
    """Return all columns of a new run."""
    request = run.request
    return {
        **mutable_values(run),
        **_ACCEPTED.of(run),
        **_ENVELOPE.of(run.envelope),
        **_REQUEST.of(request),
        "crew": request.crew,
        "inputs": _dump(request.inputs),
        "meta": _dump(request.meta),
        "restore_from": None if request.restore_from is None else _dump(asdict(request.restore_from)),
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
        **_MUTABLE.of(run),
        "state": run.state.value,
        "unverified": int(run.unverified),
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
    return {**_BEGUN.of(run), "state": run.state.value, "history": _history(run)}


def run_from_row(row: Row[Any]) -> Run:
    """Convert a row with all columns of `runs`."""
    return Run(
        **_RUN.of(row),
        request=_request_from_row(row),
        envelope=Envelope(**_ENVELOPE.of(row)),
        state=State(row.state),
        unverified=bool(row.unverified),
        progress=_load(row.progress),
        tasks=tuple(Task(**task) for task in _load(row.tasks) or ()),
        outcome=_outcome_from_row(row),
        human_input=_human_input_from_row(_load(row.human_input)),
        deferral=None if row.deferral is None else Deferral(**_load(row.deferral)),
        history=tuple(row.history.splitlines()) if isinstance(row.history, bytes) else (),  # never costs the run
    )


def new_event(event: Event) -> Values:
    """Return all columns of an event; the INSERT adjusts `stored_at`."""
    return {**_EVENT.of(event), "headers": _dump(dict(event.headers)), "stored_at": event.created_at}


def new_delivery(delivery: Delivery, owner: str | None) -> Values:
    """Return all columns of a delivery."""
    return {
        **_DELIVERY.of(delivery),
        "event_id": delivery.event.event_id,
        "crew": delivery.event.crew,
        "created_at": delivery.event.created_at,
        "channel": delivery.destination.channel.value,
        "target": delivery.destination.target,
        "receiver": receiver_name(delivery.destination),
        "state": delivery.state.value,
        "owner": owner,
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
        **_DELIVERY.of(row),
        event=event_from_row(row),
        destination=Destination(Channel(row.channel), row.target),
        state=DeliveryState(row.state),
        receiver=None if row.known is None else Receiver(row.known, row.failing_since, row.paused_at),
        requested=row.channel != Channel.CALLBACK or row.requested,
    )


def new_attempt(delivery_id: str, attempt: Attempt) -> Values:
    """Return all columns of an attempt."""
    return {"delivery_id": delivery_id, **_ATTEMPT.of(attempt)}


def attempt_from_row(row: Row[Any]) -> Attempt:
    """Convert a row of `delivery_attempts`."""
    return Attempt(**_ATTEMPT.of(row))


def event_from_row(row: Row[Any]) -> Event:
    """Convert a row of `events`, or of a join with it."""
    return Event(**_EVENT.of(row), headers=_load(row.headers))


def _request_from_row(row: Row[Any]) -> KickoffRequest:
    return KickoffRequest(
        **_REQUEST.of(row),
        crew=intern(row.crew),  # few crews, many runs
        inputs=_inputs_from_row(row.inputs),
        meta=_load(row.meta),
        restore_from=None if row.restore_from is None else RestoreFrom(**_load(row.restore_from)),
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
