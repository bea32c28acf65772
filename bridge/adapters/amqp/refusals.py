"""Remembers what the broker refused, so that similar messages do not close the shared channel."""

import time
from dataclasses import dataclass, field

from aio_pika.exceptions import ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from bridge.adapters.amqp.isolated_channel import Publication
from bridge.core.delivery.outcome import Retryable, SendResult, Undeliverable

PAUSE = 3600.0  # seconds until a refused message is tried again, which only helps if an operator did something
REFUSED_SECONDS = 60.0  # seconds in which a refused routing key is refused without asking the broker
MOST_REMEMBERED = 1000  # routing keys
LARGE = 16 * 1024 * 1024  # bytes, what RabbitMQ 4 takes by default; larger ones do not hold up others, either


@dataclass
class Refusals:
    """Refused routing keys, each with what was answered and until when; the size of the smallest refused message."""

    _keys: dict[tuple[str, str], tuple[float, SendResult]] = field(default_factory=dict)
    _size: int = LARGE

    def of(self, publication: Publication) -> SendResult | None:
        """Return the broker's recent refusal of the same routing key, if any."""
        until, answer = self._keys.get(_key(publication), (0.0, None))
        return answer if time.monotonic() < until else None

    def may_refuse(self, publication: Publication) -> bool:
        """Whether the broker has refused a message like this one before."""
        return _key(publication) in self._keys or len(publication.message.body) >= self._size

    def refused(self, publication: Publication, error: BaseException) -> SendResult:
        """Record a refusal and return the outcome: content never becomes acceptable, but permissions may be granted."""
        reason = f"the broker refuses the message: {error}"
        if isinstance(error, ChannelPreconditionFailed):
            if "size" in str(error):
                self._size = min(self._size, len(publication.message.body))
            return Undeliverable(reason)
        answer = Retryable(reason, PAUSE)
        if isinstance(error, ChannelAccessRefused):
            if len(self._keys) >= MOST_REMEMBERED:
                del self._keys[next(iter(self._keys))]
            self._keys[_key(publication)] = (time.monotonic() + REFUSED_SECONDS, answer)
        return answer

    def accepted(self, publication: Publication) -> None:
        """Record a confirm: what was refused before is permitted now."""
        self._keys.pop(_key(publication), None)
        if len(publication.message.body) >= self._size:
            self._size = LARGE


def _key(publication: Publication) -> tuple[str, str]:
    return publication.exchange, publication.routing_key
