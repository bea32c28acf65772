"""Builds messages from stored events.

Headers are not interpreted here; they were checked when the message was received.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from aio_pika import DeliveryMode, Message

from bridge.adapters.amqp.messages import ORIGINAL, PACKED
from bridge.adapters.amqp.values import ExactMessage, unpack
from bridge.adapters.cloudevents import to_binary
from bridge.core.delivery.events import CONTENT_TYPE, DEAD_LETTER
from bridge.core.delivery.model import Event

EventMode = Literal["structured", "binary"]

MAX_SHORT_STRING = 255  # bytes, by AMQP 0-9-1; the library counts characters
SHORT_STRINGS = ("message_id", "correlation_id", "type", "content_encoding", "reply_to", "app_id")
RESTORED = (*SHORT_STRINGS, "priority")


def to_message(event: Event, mode: EventMode) -> Message:
    """Return the message for an event; the same on every attempt."""
    if event.type == DEAD_LETTER:
        return _dead_letter(event)
    body, content_type, headers = event.body, event.content_type, dict(event.headers)
    if content_type == CONTENT_TYPE and mode == "binary":
        body, content_type, attributes = to_binary(event.body)
        headers |= attributes
    return ExactMessage(
        body,
        headers=dict(headers),
        content_type=content_type,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=event.event_id,
        type=event.type,
        correlation_id=event.correlation_id,
        timestamp=datetime.fromtimestamp(event.created_at, UTC),
    )


def invalid_reason(message: Message, routing_key: str) -> str | None:
    """Return why the message can never be published; None if it can."""
    for name, text in _short_strings(message, routing_key):
        if len(text.encode()) > MAX_SHORT_STRING:
            return f"{name} is longer than {MAX_SHORT_STRING} bytes"
    return None


def _dead_letter(event: Event) -> Message:
    """Return a refused message with its original properties, from which it can be replayed."""
    headers: dict[str, Any] = dict(event.headers)
    if isinstance(packed := headers.pop(PACKED, None), str):
        headers |= unpack(packed)
    properties: dict[str, Any] = {"message_id": event.event_id}
    properties |= {name: headers.pop(ORIGINAL + name) for name in RESTORED if ORIGINAL + name in headers}
    return ExactMessage(
        event.body,
        headers=headers,
        content_type=event.content_type or None,
        delivery_mode=DeliveryMode.PERSISTENT,
        timestamp=datetime.fromtimestamp(event.created_at, UTC),
        **properties,
    )


def _short_strings(message: Message, routing_key: str) -> Iterator[tuple[str, str]]:
    yield "the routing key or queue name", routing_key
    for name in ("content_type", *SHORT_STRINGS):
        yield name, getattr(message, name) or ""
    for name in message.headers:
        yield "a header's name", name
