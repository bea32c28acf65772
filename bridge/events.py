"""The bridge's events as types, for those who receive them: `parse` reads one, `match` distinguishes them by class.

    match parse(body):
        case RunSucceeded(data=run):
            save(run.idempotency_key, run.result)
        case RunFailed(data=run) | RunTimedOut(data=run) | RunCancelled(data=run):
            report(run.idempotency_key, run.error.code)

Members that are not known here are ignored, and a type that is not known here is an `UnknownEvent`, because a newer
bridge can add both. `parse` verifies no signature.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, JsonValue
from pydantic_core import from_json


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class RunError(_Model):
    """Why a run did not succeed: a stable `code` for programs, and a `message` for people."""

    code: str
    message: str


class Task(_Model):
    """A finished task. `finished_at` is when its webhook arrived, None without one."""

    name: str | None
    agent: str | None
    output: JsonValue
    finished_at: datetime | None


class Question(_Model):
    """A question to a human; `stage` is that of its answer: open, accepted, sent, or unconfirmed."""

    number: int
    task_id: str | None
    output: str | None
    message: str | None
    options: tuple[str, ...]
    asked_at: datetime
    stage: str
    problem: str | None


class RestoreFrom(_Model):
    """The earlier run that a request named, by one of its ids."""

    run_id: str | None = None
    kickoff_id: str | None = None


class RunData(_Model):
    """A run at the time of the event; docs/events.md describes each member."""

    run_id: str
    crew: str
    kickoff_id: str | None
    state: str
    result: str | None
    result_json: JsonValue
    error: RunError | None
    meta: dict[str, JsonValue]
    idempotency_key: str | None
    usage: JsonValue
    progress: JsonValue
    tasks: tuple[Task, ...]
    accepted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    polls: int
    restore_from: RestoreFrom | None = None
    question: Question | None = None


class UnsuccessfulRunData(RunData):
    """A run that ended without success."""

    error: RunError


class AskingRunData(RunData):
    """A run with a question whose answer is not confirmed."""

    question: Question


class RejectedRequestData(_Model):
    """A refused request: `code` is the refusal code, `message` is for people."""

    code: str
    message: str
    crew: str | None
    idempotency_key: str | None


class PausedReceiverData(_Model):
    """A receiver of callbacks (scheme, host, and port) to which nothing is sent until it is resumed."""

    receiver: str
    crew: str | None
    failing_since: datetime
    paused_at: datetime
    last_error: str


class CloudEvent(_Model):
    """The attributes of every event.

    A duplicate has the same `id`. `dataref` is where to fetch a result that is too large to embed.
    """

    specversion: Literal["1.0"]
    id: str
    source: str
    subject: str
    time: datetime
    datacontenttype: str = "application/json"
    dataref: str | None = None


class RunSucceeded(CloudEvent):
    """Final: the execution succeeded."""

    type: Literal["run.succeeded"]
    data: RunData


class RunFailed(CloudEvent):
    """Final: the run failed, see `data.error.code`."""

    type: Literal["run.failed"]
    data: UnsuccessfulRunData


class RunTimedOut(CloudEvent):
    """Final: the execution had not ended at the deadline."""

    type: Literal["run.timed_out"]
    data: UnsuccessfulRunData


class RunCancelled(CloudEvent):
    """Final: the producer or an operator cancelled the run."""

    type: Literal["run.cancelled"]
    data: UnsuccessfulRunData


class RunInDoubt(CloudEvent):
    """It is unknown whether the POST started an execution."""

    type: Literal["run.in_doubt"]
    data: RunData


class RunLateResult(CloudEvent):
    """The execution ended after its run: `data.result` or `data.error` describes the end, `data.state` stays."""

    type: Literal["run.late_result"]
    data: RunData


class RunWaitingForHuman(CloudEvent):
    """The execution asks a human: `data.question`."""

    type: Literal["run.waiting_for_human"]
    data: AskingRunData


class RunResumeUnconfirmed(CloudEvent):
    """An answer was sent and may have had no effect: `data.question.problem`."""

    type: Literal["run.resume_unconfirmed"]
    data: AskingRunData


class RunStarted(CloudEvent):
    """Optional: the crew API accepted the kickoff."""

    type: Literal["run.started"]
    data: RunData


class RunProgress(CloudEvent):
    """Optional: `data.progress` has changed."""

    type: Literal["run.progress"]
    data: RunData


class RequestRejected(CloudEvent):
    """A message was refused; sent to its `reply_to`."""

    type: Literal["request.rejected"]
    data: RejectedRequestData


class DeliveryPaused(CloudEvent):
    """A receiver of callbacks has failed for days and is paused."""

    type: Literal["delivery.paused"]
    data: PausedReceiverData


class UnknownEvent(CloudEvent):
    """An event of a type that is not known here, with its `data` as JSON."""

    type: str
    data: JsonValue = None


FinalEvent: TypeAlias = RunSucceeded | RunFailed | RunTimedOut | RunCancelled
"""Exactly one of these is sent for each run."""

KnownEvent: TypeAlias = (
    FinalEvent
    | RunInDoubt
    | RunLateResult
    | RunWaitingForHuman
    | RunResumeUnconfirmed
    | RunStarted
    | RunProgress
    | RequestRejected
    | DeliveryPaused
)

Event: TypeAlias = KnownEvent | UnknownEvent

_MODELS: dict[str, type[Event]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(KnownEvent)
}


def parse(event: bytes | str | Mapping[str, object]) -> Event:
    """Return an event from its JSON, as received, or from the object that it contains.

    Raise `ValueError` for what is not an event; the error of an event that lacks members names them.
    """
    document = from_json(event) if isinstance(event, bytes | str) else event
    if not isinstance(document, Mapping):
        raise ValueError("an event is a JSON object")  # noqa: TRY004 - the JSON is wrong, not the type of the argument
    return _MODELS.get(str(document.get("type")), UnknownEvent).model_validate(document)
