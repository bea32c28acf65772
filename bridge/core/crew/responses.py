"""Convert HTTP responses of the crew API into values.

The published documentation and the live API use different dialects; the rules here follow the live API and accept the
others as well. Three of them matter most:

* `state` is the state and `status` is prose; `status` counts only without a `state`, and never as a sentence;
* a POST is "refused" or "not sent" only if that is certain; everything else is in doubt, because it may be paid for;
* a response that is not understood is `Unknown`, which never ends a run.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.core.crew import progress as crew_progress
from bridge.core.crew import results
from bridge.core.crew.api_json import read_beginning, read_object
from bridge.core.crew.reply import TOO_LARGE, Reply
from bridge.core.crew.tasks import NO_TASKS, ReportedTasks, read_tasks
from bridge.core.http.retry_after import parse_retry_after
from bridge.core.numbers import read_number
from bridge.core.redaction import MASK

KICKOFF_ID = re.compile(r"(?!\.{1,2}\Z)(?:(?![/?#%\\])[!-~]){1,128}")  # a UUID in general, but any string may come
MAX_MESSAGE = 2048
FAST_REFUSAL = 10.0  # seconds; a slower 503 may be a router that gave up while the application went on


# What POST /kickoff can mean --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """The execution exists; the API named it."""

    kickoff_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The API refused permanently: nothing was started, and the same request would be refused again."""

    message: str


@dataclass(frozen=True, slots=True)
class NotStarted:
    """Nothing was started, and the same request may succeed later; `after`: the seconds to wait at least."""

    reason: str
    after: float | None = None


@dataclass(frozen=True, slots=True)
class CrewUnavailable:
    """The crew itself is unavailable: token, address, or quota. The request is not the cause; nothing was started."""

    reason: str


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The POST may or may not have started an execution, which may be paid for."""

    reason: str


KickoffResponse = Started | Refused | NotStarted | CrewUnavailable | InDoubt


# What POST /resume and a flow's callback can mean -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resumed:
    """The API accepted the answer, which proves nothing; `alias` is another id that the execution may have now."""

    alias: str | None = None


ResumeResponse = Resumed | Refused | NotStarted | CrewUnavailable | InDoubt


# What POST /stop can mean -----------------------------------------------------------------------------------------


class StopResponse(StrEnum):
    """Whether an execution was stopped, had already ended, or may still be running."""

    STOPPED = "stopped"
    ENDED = "ended"
    NOT_STOPPED = "not_stopped"


# What GET /status can mean ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pending:
    """The execution waits in the API's queue; it has not started."""


@dataclass(frozen=True, slots=True)
class Running:
    """The execution is in progress; `progress` in the form of the live API."""

    progress: Any = None
    tasks: ReportedTasks = NO_TASKS


@dataclass(frozen=True, slots=True)
class WaitingForHuman:
    """The execution is paused until a human answers."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The execution succeeded; `dropped` names the members that are nested too deep to be kept, or ambiguous."""

    result: str | None
    result_json: Any = None
    usage: Any = None
    progress: Any = None
    tasks: ReportedTasks = NO_TASKS
    dropped: tuple[str, ...] = field(default=(), compare=False)

    @property
    def has_result(self) -> bool:
        """Whether the response contained a result."""
        return self.result is not None or self.result_json is not None


@dataclass(frozen=True, slots=True)
class Failed:
    """The execution failed; `message` is the API's text."""

    message: str


@dataclass(frozen=True, slots=True)
class NotFound:
    """The API does not know the execution: too new, waiting for a human, or lost."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """The response is not understood; never an end."""

    what: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The execution exists, but its status exceeds `max_response`; `succeeded`: whether its beginning says so."""

    succeeded: bool


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No statement about the execution: connection error, rate limit, server error. `after`: seconds to wait."""

    reason: str
    after: float | None = None


StatusResponse = (
    Pending | Running | WaitingForHuman | Succeeded | Failed | NotFound | Unknown | TooLarge | NoResponse
    | CrewUnavailable
)  # fmt: skip

_PENDING = frozenset({"pending", "queued", "received", "scheduled", "task_is_pending"})
_RUNNING = frozenset(
    {
        "started", "starting", "running", "in_progress", "processing", "retry", "retrying", "resumed", "progress",
        "task_is_running",
    }
)  # fmt: skip
_WAITING = frozenset(
    {
        "paused", "pending_human_input", "awaiting_input", "awaiting_human_input", "awaiting_human_feedback",
        "waiting_for_human", "human_input_required",
    }
)  # fmt: skip
_SUCCEEDED = frozenset({"success", "succeeded", "completed", "complete", "finished", "done"})
_FAILED = frozenset({"failed", "failure", "error", "errored", "timeout", "timed_out"})
_STOPPED = frozenset({"revoked", "cancelled", "canceled", "stopped", "aborted"})
_NOT_FOUND = frozenset({"not_found", "notfound"})
_QUOTA = ("monthly execution limit", "execution limit reached")
_DEFINITE_REFUSALS = frozenset({400, 405, 409, 413, 415, 422, 451})
_MAY_HAVE_STARTED = frozenset({408, 425})  # whatever their text says


def read_kickoff(reply: Reply, fast_refusal: float = FAST_REFUSAL) -> KickoffResponse:
    """Classify a response to `POST /kickoff` (crew API contract, section 9 and the rule for ambiguous POSTs).

    `fast_refusal`: the seconds within which a 503 is certain to be a refusal.
    """
    text = _message(reply.body)
    if 200 <= reply.code < 300:
        return _read_kickoff_id(reply)
    if reply.code == 404 or _is_unavailable(reply.code, text):
        return CrewUnavailable(f"HTTP {reply.code}: {text}")
    if reply.code in _DEFINITE_REFUSALS or 300 <= reply.code < 400:
        return Refused(f"HTTP {reply.code}: {text}")
    after = parse_retry_after(reply.retry_after, reply.date)
    if reply.code == 429 or (reply.code == 503 and (after is not None or reply.elapsed < fast_refusal)):
        return NotStarted(f"HTTP {reply.code}: {text}", after)
    return InDoubt(f"HTTP {reply.code}: {text}")


def read_resume(reply: Reply) -> ResumeResponse:
    """Classify a response to `POST /resume`; even invented ids get 200, so it proves nothing (contract, 5.2)."""
    response = read_kickoff(reply)
    match response:
        case Started(kickoff_id):
            return Resumed(kickoff_id)
        case CrewUnavailable(reason) if reply.code == 404:
            return Refused(reason)
        case InDoubt() if 200 <= reply.code < 300:
            return Resumed()
        case _:
            return response


def read_status(reply: Reply) -> StatusResponse:
    """Classify a response to `GET /status/{kickoff_id}` (crew API contract, sections 4.2 to 4.5)."""
    if reply.code == 404:
        return NotFound()
    if not 200 <= reply.code < 300:
        return _no_status(reply)
    body = read_object(reply.body)
    if body is None and reply.cut == TOO_LARGE:
        return _read_too_large(reply.body)
    if body is None:
        return NoResponse(reply.cut) if reply.cut else Unknown("the response is not a JSON object")
    return _read_state(body)


def read_stop(reply: Reply) -> StopResponse:
    """Classify a response to `POST /stop/{kickoff_id}`; a 400 names the state if it cannot be stopped."""
    if reply.code == 200:
        return StopResponse.STOPPED
    named = re.search(r"current state: *([a-z_]+)", _message(reply.body).lower()) if reply.code == 400 else None
    ended = named is not None and named[1] in _SUCCEEDED | _FAILED | _STOPPED
    return StopResponse.ENDED if ended else StopResponse.NOT_STOPPED


def read_crew_webhook(body: Mapping[str, Any]) -> Succeeded | None:
    """Return the result in a crew webhook, which is sent only on success (crew API contract, section 6.3)."""
    succeeded = _succeeded(body, wrapped=not _has_state(body))
    return succeeded if succeeded.has_result or succeeded.dropped else None


def reported_run_time(response: StatusResponse) -> float | None:
    """Return the seconds that an execution took, if the API reports them."""
    progress = response.progress if isinstance(response, Succeeded) else None
    reported = progress.get("duration_seconds") if isinstance(progress, dict) else None
    seconds = None if isinstance(reported, str) else read_number(reported)
    return None if seconds is None or seconds < 0 else float(seconds)


def failure_reason(response: KickoffResponse) -> str | None:
    """Return why a response names no execution, without text of the API; None if it names one."""
    if isinstance(response, Started):
        return None
    return without_api_text(response.message if isinstance(response, Refused) else response.reason)


def without_api_text(reason: str) -> str:
    """Return the bridge's part of a reason, such as `HTTP 422`; the API's part, after a colon, may quote inputs."""
    return reason.partition(":")[0]


def usable_kickoff_id(value: Any) -> bool:
    """Return whether this can be an execution's id: one printable segment of a path, of at most 128 characters.

    A redacted id is not usable: it names no execution.
    """
    return isinstance(value, str) and KICKOFF_ID.fullmatch(value) is not None and MASK not in value


def _read_kickoff_id(reply: Reply) -> KickoffResponse:
    """Read the id; one that is complete counts, even if the rest of the response is missing or too large."""
    parsed = read_object(reply.body)
    known = read_beginning(reply.body) if parsed is None and reply.cut else parsed or {}
    kickoff_id = known.get("kickoff_id")
    if usable_kickoff_id(kickoff_id):
        return Started(str(kickoff_id))
    if parsed is None:
        return InDoubt(f"accepted; {reply.cut or 'the response is not a JSON object'}")
    return InDoubt("accepted, but the response has no usable kickoff_id")


def _no_status(reply: Reply) -> StatusResponse:
    text = _message(reply.body)
    if _is_unavailable(reply.code, text):
        return CrewUnavailable(f"HTTP {reply.code}: {text}")
    return NoResponse(f"HTTP {reply.code}: {text}", parse_retry_after(reply.retry_after, reply.date))


def _is_unavailable(code: int, text: str) -> bool:
    """Return whether the response means a wrong token, a lapsed plan, a spent quota, or a proxy without password (407).

    With codes about the request itself, only explicit phrases count: their texts quote inputs, which may say "quota".
    """
    if code in _MAY_HAVE_STARTED:
        return False
    lowered = text.lower()
    quota_spent = any(phrase in lowered for phrase in _QUOTA)
    if code in _DEFINITE_REFUSALS:
        return code != 422 and quota_spent
    at_limit = "quota" in lowered or ("limit reached" in lowered and "rate" not in lowered)  # a rate limit is transient
    return code in {401, 402, 403, 407} or (400 <= code < 500 and at_limit) or quota_spent


def _read_state(body: Mapping[str, Any]) -> StatusResponse:
    token = _token(body)
    if token in _SUCCEEDED:
        return _succeeded(body, wrapped=not _has_state(body))
    if token in _FAILED:
        return Failed(_failure(body))
    if token in _STOPPED:
        return Failed(f"the execution was stopped: {_failure(body)}")
    if token in _WAITING or _flow_waits(body):
        return WaitingForHuman()
    if token in _RUNNING:
        return Running(crew_progress.read_progress(body), read_tasks(body, wrapped=not _has_state(body)))
    if token in _PENDING:
        return Pending()
    return NotFound() if token in _NOT_FOUND else Unknown(f"state {str(token)[:60]!r}")


def _read_too_large(beginning: bytes) -> StatusResponse:
    """Read the state, which comes first; nothing but a success needs the rest."""
    response = _read_state(read_beginning(beginning))
    if isinstance(response, Succeeded | Unknown):
        return TooLarge(succeeded=isinstance(response, Succeeded))
    return response


def _token(body: Mapping[str, Any]) -> str | None:
    for name in ("state", "status"):
        value = body.get(name)
        if isinstance(value, str) and value.strip():
            return re.sub(r"[ \-_]+", "_", value.strip().lower())
    return None


def _flow_waits(body: Mapping[str, Any]) -> bool:
    """Return whether a flow waits for feedback: it has a `flow_id` and no result yet (contract 4.5, override 2)."""
    flow_id = body.get("flow_id")
    return isinstance(flow_id, str) and flow_id != "" and body.get("result") is None


def _succeeded(body: Mapping[str, Any], *, wrapped: bool) -> Succeeded:
    found = results.read_result(body, wrapped=wrapped)
    reported = next((body[name] for name in ("usage_metrics", "token_usage") if body.get(name) is not None), None)
    usage = results.portable(reported)
    dropped = found.dropped if usage is not None or reported is None else (*found.dropped, "usage")
    tasks = read_tasks(body, wrapped=wrapped)
    progress = crew_progress.read_final_progress(body, tasks.finished or 0)
    return Succeeded(found.text, found.parsed, usage, progress, tasks, dropped)


def _has_state(body: Mapping[str, Any]) -> bool:
    state = body.get("state")
    return isinstance(state, str) and state.strip() != ""


def _failure(body: Mapping[str, Any]) -> str:
    names = ["error", "error_message", "result", "detail", "message"]
    if body.get("state"):
        names.insert(2, "status")  # with a state, the prose is the exception's text
    texts = (body.get(name) for name in names)
    return next((clean_text(text) for text in texts if isinstance(text, str) and text), "no reason given")


def _message(body: bytes) -> str:
    """Return the API's message, shortened, from any of its error shapes."""
    parsed = read_object(body)
    if parsed is None:
        return clean_text(body[:MAX_MESSAGE].decode("utf-8", "replace").strip()) or "no text"
    for name in ("detail", "message", "error"):
        value = parsed.get(name)
        if value:
            return clean_text(value if isinstance(value, str) else json.dumps(value))
    return "no text"


def clean_text(text: str, most: int = MAX_MESSAGE) -> str:
    """Return text that is safe for every store, queue, and log: no NUL, no lone surrogates, bounded in length."""
    return results.clean(text[:most]).replace("\x00", "")
