"""Reads CloudEvents that request a kickoff, from messages and HTTP requests, and writes events in binary mode.

In binary mode, the attributes are headers. Over HTTP, their names begin with `ce-`. On RabbitMQ, there are two
conventions: the names of the AMQP 1.0 binding (`cloudEvents_`, `cloudEvents:`) and those of Knative's binding (`ce-`).
All are read; the first is written, because RabbitMQ converts it to the form that the binding specifies for AMQP 1.0
consumers. Values are written as text.
"""

import hashlib
import json
import re
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import amqp
from cloudevents.core.exceptions import BaseCloudEventException, CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from bridge.core.errors import RequestRefused
from bridge.core.json import compact, parse_object, without_mark
from bridge.core.runs.request import MAX_KEY

PREFIX = "cloudEvents_"
REQUIRED = ("specversion", "id", "source", "type")  # the SDK would generate the first two

_MEDIA_TYPE = "application/cloudevents"
_ANY_PREFIX = re.compile(r"(?:cloudEvents[_:]|ce[-_])(.+)", re.IGNORECASE)
_FORMAT = JSONFormat()


@dataclass(frozen=True, slots=True)
class InboundEvent:
    """A CloudEvent with a request in its `data` (`body`); `key` is its idempotency key."""

    body: dict[str, Any]
    type: str
    key: str
    traceparent: object


def read_event(content_type: str | None, headers: Mapping[str, Any], body: bytes) -> InboundEvent | None:
    """Return the CloudEvent in a message or an HTTP request, None if it is none; raises `RequestRefused`."""
    media_type = _media_type(content_type)
    if media_type.startswith(_MEDIA_TYPE):
        return _structured(body, media_type)
    attributes = _attributes(headers)
    return _binary(body, attributes) if attributes else None


def peek(content_type: str | None, headers: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], str | None]:
    """Return the request in a refused message, and the key of its CloudEvent, as far as they can be read."""
    content = _readable(body)
    key = event_key(content_type, headers, content)
    return _data(content) if _is_structured(content_type) else content, key


def event_key(content_type: str | None, headers: Mapping[str, Any], content: Any) -> str | None:
    """Return the idempotency key of the CloudEvent that a message with this parsed body is; None if it is none."""
    if _is_structured(content_type):
        attributes = content if isinstance(content, dict) else {}
    else:
        attributes = _attributes(headers)
    source, id_ = (value if isinstance(value := attributes.get(name), str) else "" for name in ("source", "id"))
    return _key(source, id_) if source and id_ and " " not in source else None


def to_binary(body: bytes) -> tuple[bytes, str, dict[str, str]]:
    """Convert a structured event of the bridge to binary mode: body, content type, headers. Deterministic."""
    event = json.loads(body)
    data, content_type = event.pop("data"), event.pop("datacontenttype")
    return compact(data), content_type, {PREFIX + name: value for name, value in event.items()}


def _is_structured(content_type: str | None) -> bool:
    return _media_type(content_type).startswith(_MEDIA_TYPE)


def _media_type(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _attributes(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the CloudEvents attributes in the headers; none if there is no `specversion`."""
    found = ((_ANY_PREFIX.fullmatch(name), value) for name, value in headers.items())
    attributes = {match[1].lower(): value for match, value in found if match}
    return attributes if "specversion" in attributes else {}


def _readable(body: bytes) -> dict[str, Any]:
    try:
        return parse_object(body)
    except RequestRefused:
        return {}


def _data(content: dict[str, Any]) -> dict[str, Any]:
    data, encoded = content.get("data"), content.get("data_base64")
    if isinstance(encoded, str):
        with suppress(ValueError):
            return _readable(b64decode(encoded))
    return data if isinstance(data, dict) else {}


def _structured(body: bytes, media_type: str) -> InboundEvent:
    if media_type not in (_MEDIA_TYPE, f"{_MEDIA_TYPE}+json"):
        raise RequestRefused("invalid_request", "only single CloudEvents in the JSON format are accepted")
    attributes = parse_object(body)  # stricter than the SDK
    _check_required(attributes)
    return _inbound(amqp.AMQPMessage({}, {}, without_mark(body)), structured=True)


def _binary(body: bytes, attributes: dict[str, Any]) -> InboundEvent:
    _check_required(attributes)
    properties = {PREFIX + name: value for name, value in attributes.items()}
    return _inbound(amqp.AMQPMessage({}, properties, body), structured=False)


def _inbound(message: amqp.AMQPMessage, *, structured: bool) -> InboundEvent:
    event = _parsed(message, structured=structured)
    data = event.get_data() if structured else message.application_data
    if " " in event.get_source():
        _refuse("the attribute 'source' is not a URI reference")
    return InboundEvent(
        body=_object(data),
        type=event.get_type(),
        key=_key(event.get_source(), event.get_id()),
        traceparent=event.get_extension("traceparent"),
    )


def _parsed(message: amqp.AMQPMessage, *, structured: bool) -> BaseCloudEvent:
    read = amqp.from_structured if structured else amqp.from_binary
    try:
        return read(message, _FORMAT, CloudEvent)
    except CloudEventValidationError as error:
        _refuse("; ".join(str(problem) for problems in error.errors.values() for problem in problems))
    except (BaseCloudEventException, ValueError, TypeError, OverflowError, OSError) as error:  # mostly an invalid time
        _refuse(str(error))


def _check_required(attributes: dict[str, Any]) -> None:
    for name in REQUIRED:
        if name not in attributes:
            _refuse(f"the attribute {name!r} is missing")


def _object(data: Any) -> dict[str, Any]:
    if isinstance(data, bytes):
        return parse_object(data)
    if not isinstance(data, dict):
        _refuse("its data must be a JSON object")
    return data


def _key(source: str, id_: str) -> str:
    """Join source and id; a source, being a URI reference, contains no space, so the result is unambiguous."""
    key = f"{source} {id_}"
    return key if len(key.encode()) <= MAX_KEY else "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def _refuse(problem: str) -> NoReturn:
    raise RequestRefused("invalid_request", f"not a valid CloudEvent 1.0: {problem}")
