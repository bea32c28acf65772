"""Parse an untrusted kickoff request, its duration values, and its trace context."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bridge.core.errors import RequestRefused
from bridge.core.json import canonical, check_members, text_member
from bridge.core.numbers import read_number
from bridge.core.runs import restore
from bridge.core.runs.model import Envelope, KickoffRequest, Run

FIELDS = frozenset(
    {"crew", "inputs", "meta", "callback_url", "deadline", "start_by", "priority", "idempotency_key", "restore_from"}
)
MAX_KEY = 255  # bytes; an AMQP short string holds no more, and the key travels as correlation id
MAX_PRIORITY = 255  # an octet on the wire
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,256})?"
)


def parse(body: Mapping[str, Any], crew: str | None = None, idempotency_key: str | None = None) -> KickoffRequest:
    """Parse the body of a request; raises `RequestRefused`.

    `crew` comes from the routing key, `idempotency_key` from a header or property; the body takes precedence.
    """
    check_members(body, FIELDS)
    body_key = text_member(body, "idempotency_key")
    return KickoffRequest(
        crew=_crew(body.get("crew"), crew),
        inputs=_object(body, "inputs"),
        meta=_object(body, "meta"),
        callback_url=text_member(body, "callback_url"),
        deadline=_duration(body, "deadline"),
        start_by=_duration(body, "start_by"),
        priority=_priority(body.get("priority")),
        idempotency_key=check_key(idempotency_key if body_key is None else body_key),
        restore_from=restore.parse(body.get("restore_from")),
    )


def retry(run: Run, idempotency_key: str | None, sender: Envelope) -> tuple[KickoffRequest, Envelope]:
    """Return the request of an ended run as a new one of this sender, for the same destinations.

    Events of both runs have the same correlation id. Raise `RequestRefused` if the run has not ended.
    """
    if not run.final:
        raise RequestRefused("run_not_ended", f"the run is {run.state}; only a run that has ended can be retried")
    correlation_id = run.envelope.correlation_id or run.request.idempotency_key
    return (
        replace(run.request, idempotency_key=check_key(idempotency_key), retry_of=run.run_id),
        replace(sender, reply_to=run.envelope.reply_to, correlation_id=correlation_id),
    )


def fingerprint(request: KickoffRequest) -> str:
    """Return the SHA-256 of the content without the key: equal for equal requests."""
    restore_from = request.restore_from
    content = {
        "crew": request.crew,
        "inputs": request.inputs,
        "meta": request.meta,
        "callback_url": request.callback_url,
        "deadline": request.deadline,
        "priority": request.priority,
        "restore_from": restore_from and [restore_from.run_id, restore_from.kickoff_id],
    }
    if request.start_by is not None:
        content["start_by"] = request.start_by
    if request.retry_of is not None:
        content["retry_of"] = request.retry_of
    return hashlib.sha256(canonical(content)).hexdigest()


def check_key(key: str | None) -> str | None:
    """Return an idempotency key unchanged; raises `RequestRefused` if it is empty, too long, or not printable."""
    if key is None:
        return None
    if not key.strip() or not key.isprintable():
        raise RequestRefused("invalid_request", "must be printable and not empty", "idempotency_key")
    if len(key.encode()) > MAX_KEY:
        raise RequestRefused("invalid_request", f"must be at most {MAX_KEY} bytes long", "idempotency_key")
    return key


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as `500ms`, `30s`, `5m`, `1h`, `14d`; raises `ValueError`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("must be a duration such as 500ms, 30s, 5m, 1h or 14d")
    number = read_number(match[1])
    return math.inf if number is None else float(number) * _UNITS[match[2]]


def format_duration(seconds: float) -> str:
    """Return a duration as `parse_duration` reads it, in the largest unit of which it is a whole number."""
    unit = max((unit for unit, size in _UNITS.items() if seconds % size == 0), key=_UNITS.__getitem__, default="ms")
    return f"{round(seconds / _UNITS[unit])}{unit}"


def parse_traceparent(value: object) -> str | None:
    """Return a W3C trace context (level 1) given as text or bytes; None if it is not well-formed.

    What later versions may append is kept if it is short, because it is sent again with every event.
    """
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    match = _TRACEPARENT.fullmatch(text) if isinstance(text, str) else None
    if match is None or (match[1] == "00" and match[2] is not None):
        return None
    return match[0]


def _crew(named: Any, routed: str | None) -> str:
    crew = routed if named is None else named
    if not isinstance(crew, str) or not crew:
        raise RequestRefused("invalid_request", "must be the name of a crew", "crew")
    return crew


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestRefused("invalid_request", "must be a JSON object", name)
    return value


def _duration(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    try:
        seconds = parse_duration(value) if isinstance(value, str) else math.nan
    except ValueError as error:
        raise RequestRefused("invalid_request", str(error), name) from None
    if not 0 < seconds < math.inf:
        raise RequestRefused("invalid_request", "must be a duration such as 30s, 5m or 1h, above zero", name)
    return seconds


def _priority(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():  # to JSON, 5.0 is a whole number
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_PRIORITY:
        raise RequestRefused("invalid_request", f"must be a whole number from 0 to {MAX_PRIORITY}", "priority")
    return value
