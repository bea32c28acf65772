"""Parses messages of other systems, which a source maps to kickoff requests.

Expressions see only what a dead letter keeps, so that a replayed message is mapped like the first time. `reply_to` and
`type` belong to the other system: they lead to no delivery and to no command.
"""

from collections.abc import Mapping
from typing import Any

from bridge.adapters.amqp.inbound_message import InboundMessage
from bridge.adapters.amqp.messages import MessageRules, check_readable, is_reserved, printable
from bridge.adapters.amqp.values import to_json
from bridge.adapters.cloudevents import event_key
from bridge.core import json as strict_json
from bridge.core.inbound import source
from bridge.core.inbound.source import Source, SourceMessage
from bridge.core.runs.model import Envelope, KickoffRequest
from bridge.core.runs.request import parse_traceparent

PROPERTIES = (
    "content_type",
    "content_encoding",
    "message_id",
    "correlation_id",
    "type",
    "reply_to",
    "app_id",
    "priority",
)
"""The properties that expressions can use."""


def read_mapped(
    message: InboundMessage, mapping: Source, rules: MessageRules
) -> tuple[KickoffRequest, Envelope] | None:
    """Map a message to a kickoff request; None if the source's `when` is false. Raise `RequestRefused`."""
    check_readable(message, rules)
    properties = {name: getattr(message, name) for name in PROPERTIES}
    content = parse_message(message.body, message.headers, properties)
    request = source.read(mapping, content)
    return None if request is None else (request, _envelope(message, mapping, content))


def parse_message(body: bytes, headers: Mapping[str, Any], properties: Mapping[str, Any]) -> SourceMessage:
    """Parse a message; raises `RequestRefused`. An empty property counts as absent."""
    content = strict_json.parse(body)
    return SourceMessage(
        body=content,
        headers={name.lower(): to_json(value) for name, value in headers.items() if not is_reserved(name)},
        properties={name: value for name, value in properties.items() if value not in (None, "")},
        key=event_key(properties.get("content_type"), headers, content) or properties.get("message_id") or None,
    )


def _envelope(message: InboundMessage, mapping: Source, content: SourceMessage) -> Envelope:
    """Return how the message arrived; a trace context may also be an attribute of a structured CloudEvent."""
    attribute = content.body.get("traceparent") if isinstance(content.body, dict) else None
    return Envelope(
        source=mapping.source,
        correlation_id=printable(message.correlation_id),
        traceparent=parse_traceparent(message.headers.get("traceparent")) or parse_traceparent(attribute),
        redelivered=bool(message.redelivered),
    )
