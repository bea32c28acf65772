"""Builds messages from stored events.

Headers are not interpreted here; they were checked when the message was received.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from aio_pika import DeliveryMode

from bridge.adapters.amqp.messages import ORIGINAL, PACKED
from bridge.adapters.amqp.values import ExactProperties, unpack
from bridge.adapters.cloudevents import to_binary
from bridge.core.delivery.events import CONTENT_TYPE, DEAD_LETTER
from bridge.core.delivery.model import Event

EventMode = Literal["structured", "binary"]

MAX_SHORT_STRING = 255  # bytes, by AMQP 0-9-1
SHORT_STRINGS = {
    "content_type": "content_type",
    "message_id": "message_id",
    "correlation_id": "correlation_id",
    "type": "message_type",
    "content_encoding": "content_encoding",
    "reply_to": "reply_to",
    "app_id": "app_id",
}
"""The properties that are short strings, with the library's names."""
RESTORED = {**SHORT_STRINGS, "priority": "priority"}
del RESTORED["content_type"]  # of the event, as for every other one


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A message to publish."""

    body: bytes
    properties: ExactProperties


def to_message(event: Event, mode: EventMode) -> OutboundMessage:
    """Return the message for an event; the same on every attempt."""
    if event.type == DEAD_LETTER:
        return _dead_letter(event)
    body, content_type, headers = event.body, event.content_type, dict[str, Any](event.headers)
    if content_type == CONTENT_TYPE and mode == "binary":
        body, content_type, attributes = to_binary(event.body)
        headers |= attributes
    properties = ExactProperties(
        content_type=content_type,
        headers=headers,
        delivery_mode=DeliveryMode.PERSISTENT,
        priority=0,
        correlation_id=event.correlation_id,
        message_id=event.event_id,
        timestamp=datetime.fromtimestamp(event.created_at, UTC),
        message_type=event.type,
    )
    return OutboundMessage(body, properties)


def invalid_reason(message: OutboundMessage, routing_key: str) -> str | None:
    """Return why the message can never be published; None if it can."""
    for name, text in _short_strings(message.properties, routing_key):
        if len(text.encode()) > MAX_SHORT_STRING:
            return f"{name} is longer than {MAX_SHORT_STRING} bytes"
    return None


def _dead_letter(event: Event) -> OutboundMessage:
    """Return a refused message with its original properties, from which it can be replayed."""
    headers: dict[str, Any] = dict(event.headers)
    if isinstance(packed := headers.pop(PACKED, None), str):
        headers |= unpack(packed)
    own: dict[str, Any] = {"content_type": event.content_type or None, "message_id": event.event_id, "priority": 0}
    own |= {field: headers.pop(ORIGINAL + name) for name, field in RESTORED.items() if ORIGINAL + name in headers}
    at = datetime.fromtimestamp(event.created_at, UTC)
    properties = ExactProperties(headers=headers, delivery_mode=DeliveryMode.PERSISTENT, timestamp=at, **own)
    return OutboundMessage(event.body, properties)


def _short_strings(properties: ExactProperties, routing_key: str) -> Iterator[tuple[str, str]]:
    yield "the routing key or queue name", routing_key
    for name, field in SHORT_STRINGS.items():
        yield name, getattr(properties, field) or ""
    for name in properties.headers or ():
        yield "a header's name", name
