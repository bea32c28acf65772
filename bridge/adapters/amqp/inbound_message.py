"""Messages as the lower library delivers them; the upper one would copy each property of each message."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic


@dataclass(slots=True)
class InboundMessage:
    """A delivered message; properties that are absent or empty are None."""

    body: bytes
    headers: Mapping[str, Any]
    delivery_tag: int
    exchange: str
    routing_key: str
    redelivered: bool
    content_type: str | None
    content_encoding: str | None
    priority: int
    correlation_id: str | None
    reply_to: str | None
    message_id: str | None
    type: str | None
    app_id: str | None
    expiration_ms: str | None
    """As the producer wrote it; the broker accepts only numbers."""
    channel: AbstractChannel

    @classmethod
    def read(cls, delivered: DeliveredMessage) -> Self:
        """Return the message that the library delivers to a consumer."""
        deliver, properties = delivered.delivery, delivered.header.properties
        assert isinstance(deliver, Basic.Deliver) and deliver.delivery_tag is not None  # noqa: PT018
        return cls(
            delivered.body,
            properties.headers or {},
            deliver.delivery_tag,
            deliver.exchange,
            deliver.routing_key or "",
            bool(deliver.redelivered),
            properties.content_type,
            properties.content_encoding,
            properties.priority or 0,
            properties.correlation_id or None,
            properties.reply_to or None,
            properties.message_id or None,
            properties.message_type or None,
            properties.app_id or None,
            properties.expiration or None,
            delivered.channel,
        )
