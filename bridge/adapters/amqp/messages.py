"""Parses messages of the requests queue into requests and commands, and keeps what is needed of refused ones.

Nothing here uses the broker. Messages are untrusted, so `reply_to` counts only where the settings allow it, and headers
that route messages are dropped.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from bridge.adapters.amqp import values
from bridge.adapters.amqp.frames import UNREADABLE
from bridge.adapters.amqp.inbound_message import InboundMessage
from bridge.adapters.cloudevents import InboundEvent, peek, read_event
from bridge.core import json as strict_json
from bridge.core.errors import RequestRefused
from bridge.core.inbound.source import Source
from bridge.core.json import check_members
from bridge.core.runs import request
from bridge.core.runs.commands import Cancel, RunCommand, read_resume
from bridge.core.runs.model import CREW_NAME, Envelope, KickoffRequest
from bridge.core.runs.request import parse_traceparent
from bridge.ports.inbound import RefusedMessage, RunKey

KICKOFF = "kickoff"
COMMANDS = frozenset({"resume", "cancel"})
PLAIN_ENCODINGS = frozenset({"", "identity", "utf-8", "utf8"})
MAX_DETAIL = 256  # characters of the detail of a refusal, which may quote the message
ROUTING_HEADERS = ("cc", "bcc")  # RabbitMQ routes copies by them
BROKER_HEADERS = ("x-death", "x-delivery-count", "x-acquired-count", "x-received-from")
PLUGIN_HEADERS = ("x-delay", "x-deduplication-header")  # the latter would drop a replayed message as a duplicate
RESERVED = frozenset({*ROUTING_HEADERS, *BROKER_HEADERS, *PLUGIN_HEADERS})
RESERVED_PREFIX = ("x-bridge-", "x-first-death-", "x-last-death-", "x-opt-")
MAX_HEADERS = 64  # kept of a refused message, so that its dead letter always fits in a frame
MAX_HEADERS_SIZE = 16 * 1024  # bytes of their names and values; the default frame size is 128 KiB
ORIGINAL = "x-bridge-original-"  # prefix of headers with the original properties, which a replay restores
PACKED = f"{ORIGINAL}headers"  # in the store: all headers with types that JSON does not have


@dataclass(frozen=True, slots=True)
class MessageRules:
    """Which messages are accepted. `requests`: the name of the exchange and the queue; `max_message` in bytes.

    `reply_to`: glob patterns of the reply queues that a message may name. `mapping`: set if the queue is that of a
    source, with messages of another system.
    """

    requests: str
    max_message: int
    reply_to: Sequence[str] = ()
    mapping: Source | None = None

    @property
    def source(self) -> str:
        """The source of the runs from this queue, which scopes their idempotency keys."""
        return f"queue/{self.requests}" if self.mapping is None else self.mapping.source

    @property
    def link(self) -> str:
        """The name of the connection that consumes this queue."""
        return "consume" if self.mapping is None else self.mapping.source


def read_request(message: InboundMessage, rules: MessageRules) -> tuple[KickoffRequest, Envelope]:
    """Read a kickoff request; raises `RequestRefused`."""
    check_readable(message, rules)
    event = read_event(message.content_type, message.headers, message.body)
    _check_kind(message.type, event)
    body = strict_json.parse_object(message.body) if event is None else event.body
    if body.get("priority") is None:
        body = {**body, "priority": message.priority or 0}
    if body.get("start_by") is None and message.expiration_ms is not None:
        body = {**body, "start_by": f"{max(1, round(float(message.expiration_ms)))}ms"}
    key = (message.message_id or None) if event is None else event.key  # some clients send an empty id
    return request.parse(body, routed_crew(message, rules), key), _envelope(message, rules, event)


def is_command(message: InboundMessage) -> bool:
    """Return whether the message is a command for an existing run."""
    return message.type in COMMANDS


def read_command(message: InboundMessage, rules: MessageRules) -> tuple[str | RunKey, RunCommand]:
    """Read a command, and which run it is for; raises `RequestRefused`."""
    check_readable(message, rules)
    event = read_event(message.content_type, message.headers, message.body)
    body = strict_json.parse_object(message.body) if event is None else dict(event.body)
    target = _take_target(body, message, rules)
    if message.type == "cancel":
        check_members(body)
        return target, Cancel()
    key = request.check_key((message.message_id or None) if event is None else event.key)
    scoped = key and f"{rules.source} {key}"
    return target, read_resume(body, scoped, redelivered=bool(message.redelivered))


def read_refused(message: InboundMessage, rules: MessageRules, refusal: RequestRefused) -> RefusedMessage:
    """Return what is kept of a refused message."""
    crew, key = _crew_and_key(message, rules)
    reply_to = printable(message.reply_to)
    return RefusedMessage(
        body=message.body,
        content_type=printable(message.content_type),
        headers=_safe_headers(message.headers) | _original_properties(message, rules),
        code=refusal.code,
        detail=refusal.detail[:MAX_DETAIL],
        crew=crew,
        reply_to=reply_to if reply_to and _may_reply_to(reply_to, rules) else None,
        correlation_id=printable(message.correlation_id),
        idempotency_key=key,
    )


def _crew_and_key(message: InboundMessage, rules: MessageRules) -> tuple[str | None, str | None]:
    """Return the crew and the idempotency key of a refused message, as far as they can be read."""
    if rules.mapping is not None:
        return rules.mapping.crew, None
    readable = message.body if len(message.body) <= rules.max_message else b""
    body, key = peek(message.content_type, message.headers, readable)
    crew = body.get("crew")
    keys = filter(None, map(_valid_key, (body.get("idempotency_key"), key, message.message_id)))
    return crew if crew and isinstance(crew, str) else routed_crew(message, rules), next(keys, None)


def _valid_key(key: object) -> str | None:
    with suppress(RequestRefused):
        return request.check_key(key) if isinstance(key, str) else None
    return None


def routed_crew(message: InboundMessage, rules: MessageRules) -> str | None:
    """Return the crew that the routing key names; through another exchange, the routing key has another meaning."""
    return message.routing_key or None if rules.mapping is None and message.exchange == rules.requests else None


def _take_target(body: dict[str, Any], message: InboundMessage, rules: MessageRules) -> str | RunKey:
    """Remove the target from the body and return it: a run id, or the crew and key of its request."""
    run_id, key, crew = (body.pop(name, None) for name in ("run_id", "idempotency_key", "crew"))
    if (run_id is None) == (key is None):
        raise RequestRefused("invalid_request", "must name the run by either run_id or idempotency_key", "run_id")
    if isinstance(run_id, str):
        return run_id
    if run_id is not None:
        raise RequestRefused("invalid_request", "must be a string", "run_id")
    crew = routed_crew(message, rules) if crew is None else crew
    if not isinstance(key, str):
        raise RequestRefused("invalid_request", "must be a string", "idempotency_key")
    # A routing key may contain text that a database refuses.
    if not isinstance(crew, str) or not CREW_NAME.fullmatch(crew):
        raise RequestRefused("invalid_request", "must be the name of a crew", "crew")
    return RunKey(rules.source, crew, key)


def check_readable(message: InboundMessage, rules: MessageRules) -> None:
    """Check size, encoding, and properties; raises `RequestRefused`.

    A property that cannot be decoded may be the idempotency key, so it is refused.
    """
    check_content(message.body, message.content_encoding, rules.max_message)
    if UNREADABLE in message.headers:
        lost = str(message.headers[UNREADABLE])
        raise RequestRefused("invalid_request", f"properties of the message cannot be decoded: {lost}")


def check_content(body: bytes, encoding: str | None, max_message: int) -> None:
    """Check the size, in bytes, and the encoding of a body; raises `RequestRefused`."""
    if len(body) > max_message:
        raise RequestRefused("too_large", f"the message is larger than {max_message} bytes")
    if (encoding or "").lower() not in PLAIN_ENCODINGS:
        raise RequestRefused("invalid_request", "content_encoding must be absent, identity, utf-8, or utf8")


def _check_kind(kind: str | None, event: InboundEvent | None) -> None:
    """Refuse other types; a CloudEvent may repeat its own type in the property."""
    if kind and kind != KICKOFF and (event is None or kind != event.type):
        raise RequestRefused("invalid_request", f"the message's type must be absent or {KICKOFF!r}")


def _envelope(message: InboundMessage, rules: MessageRules, event: InboundEvent | None) -> Envelope:
    reply_to = message.reply_to or None
    if reply_to is not None and not _may_reply_to(reply_to, rules):
        raise RequestRefused("reply_to_not_allowed", "reply_to names a queue that the settings do not allow")
    correlation_id = message.correlation_id or None
    if correlation_id is not None and not correlation_id.isprintable():
        raise RequestRefused("invalid_request", "correlation_id must be printable")
    return Envelope(
        source=rules.source,
        reply_to=reply_to,
        correlation_id=correlation_id,
        traceparent=parse_traceparent(message.headers.get("traceparent"))
        or parse_traceparent(event and event.traceparent),
        redelivered=bool(message.redelivered),
    )


def _may_reply_to(queue: str, rules: MessageRules) -> bool:
    return queue.isprintable() and any(fnmatchcase(queue, pattern) for pattern in rules.reply_to)


def _safe_headers(headers: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """Return the headers to republish, in order, as many as fit.

    Those that JSON cannot express are encoded as AMQP here; those that cannot be encoded are dropped.
    """
    plain: dict[str, str | int | float | bool] = {}
    typed: dict[str, Any] = {}
    room = float(MAX_HEADERS_SIZE)
    for name, value in headers.items():
        size = _size(name, value)
        if not is_reserved(name) and size <= room and len(plain) + len(typed) < MAX_HEADERS:
            (plain if _is_plain(name, value) else typed)[name] = value
            room -= size
    return plain | ({PACKED: values.pack(typed)} if typed else {})


def _size(name: str, value: Any) -> float:
    """Return the encoded size of a header in bytes; infinite if it cannot be encoded."""
    try:
        return len(values.table({name: value}))
    except (TypeError, ValueError, OverflowError, RecursionError, struct.error):
        return math.inf


def _is_plain(name: str, value: Any) -> bool:
    return (
        isinstance(value, str | int | float)
        and (not isinstance(value, float) or math.isfinite(value))
        and "\0" not in f"{name}{value}"
    )


def is_reserved(header: str) -> bool:
    """Return whether the broker or the bridge interprets this header, so that a producer must not set it."""
    return header.lower() in RESERVED or header.lower().startswith(RESERVED_PREFIX)


def _original_properties(message: InboundMessage, rules: MessageRules) -> dict[str, str | int | float | bool]:
    """Return headers with the original properties and routing key, from which a replay restores them."""
    kept = {
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "type": message.type,
        "content_encoding": message.content_encoding,
        "reply_to": message.reply_to,
        "app_id": message.app_id,
        "routing_key": routed_crew(message, rules),
        "queue": None if rules.mapping is None else rules.requests,
    }
    texts = {f"{ORIGINAL}{name}": text for name, value in kept.items() if (text := printable(value))}
    return texts | ({f"{ORIGINAL}priority": message.priority} if message.priority else {})


def printable(text: str | None) -> str | None:
    """Return text unchanged, None if it is absent, empty, or not printable."""
    return text if text and text.isprintable() else None
