"""What the broker has refused, so that the next message of that kind does not close the channel that others use."""

import time
from dataclasses import dataclass, field

from aio_pika.exceptions import ChannelPreconditionFailed
from aiormq.exceptions import ChannelAccessRefused

from bridge.adapters.amqp.isolated import Publication
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
        """What the broker has just answered to another message for the same routing key."""
        until, answer = self._keys.get(_key(publication), (0.0, None))
        return answer if time.monotonic() < until else None

    def may_refuse(self, publication: Publication) -> bool:
        """Whether the broker has refused a message like this one before."""
        return _key(publication) in self._keys or len(publication.message.body) >= self._size

    def refused(self, publication: Publication, error: BaseException) -> SendResult:
        """Note a refusal; the answer for the message: the same bytes never pass, while permissions may be given."""
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

    def taken(self, publication: Publication) -> None:
        """The broker has confirmed a message: what was refused before is permitted now."""
        self._keys.pop(_key(publication), None)
        if len(publication.message.body) >= self._size:
            self._size = LARGE


def _key(publication: Publication) -> tuple[str, str]:
    return publication.exchange, publication.routing_key
