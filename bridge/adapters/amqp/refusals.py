"""Remembers what the broker refused, so that similar messages do not close the shared channel."""

import time
from dataclasses import dataclass, field

from aio_pika.exceptions import ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from bridge.adapters.amqp.isolated_channel import Publication
from bridge.core.delivery.outcome import Retryable, SendResult, Undeliverable

PAUSE = 3600.0  # seconds until a refused message is retried, which succeeds only after an operator's action
REFUSED_SECONDS = 60.0  # in which messages with a refused routing key are refused without the broker
MAX_KEYS = 1000  # routing keys
LARGE = 16 * 1024 * 1024  # bytes, the default limit of RabbitMQ 4; larger messages are published in isolation


@dataclass
class Refusals:
    """The refused routing keys, each with its result and expiry, and the size of the smallest refused message."""

    _keys: dict[tuple[str, str], tuple[float, SendResult]] = field(default_factory=dict)
    _size: int = LARGE

    def recent(self, publication: Publication) -> SendResult | None:
        """Return the broker's recent refusal of the same routing key, if any."""
        until, result = self._keys.get(_key(publication), (0.0, None))
        return result if time.monotonic() < until else None

    def may_refuse(self, publication: Publication) -> bool:
        """Return whether the broker has refused a similar message."""
        return _key(publication) in self._keys or len(publication.message.body) >= self._size

    def refused(self, publication: Publication, error: BaseException) -> SendResult:
        """Record a refusal and return the result: content never becomes acceptable, but permissions may be granted."""
        reason = f"the broker refuses the message: {error}"
        if isinstance(error, ChannelPreconditionFailed):
            if "size" in str(error):
                self._size = min(self._size, len(publication.message.body))
            return Undeliverable(reason)
        result = Retryable(reason, PAUSE)
        if isinstance(error, ChannelAccessRefused):
            if len(self._keys) >= MAX_KEYS:
                del self._keys[next(iter(self._keys))]
            self._keys[_key(publication)] = (time.monotonic() + REFUSED_SECONDS, result)
        return result

    def accepted(self, publication: Publication) -> None:
        """Record a confirm: what was refused before is permitted now."""
        self._keys.pop(_key(publication), None)
        if len(publication.message.body) >= self._size:
            self._size = LARGE


def _key(publication: Publication) -> tuple[str, str]:
    return publication.exchange, publication.routing_key
