"""The retry schedules of deliveries, by channel."""

from bridge.core import jitter
from bridge.core.delivery.model import Channel
from bridge.core.http.retry_after import MAX_RETRY_AFTER

MINUTE, HOUR = 60.0, 3600.0
_CALLBACK_DELAYS = (
    5.0,
    5 * MINUTE,
    30 * MINUTE,
    2 * HOUR,
    5 * HOUR,
    10 * HOUR,
    14 * HOUR,
    20 * HOUR,
    24 * HOUR,
)
_BROKER_MAX_DELAY = HOUR
_REPLY_QUEUE_ATTEMPTS = 34  # about a day; a reply queue missing for longer will not be declared again


def next_attempt_at(delivery_id: str, channel: Channel, attempts: int, now: float, after: float | None) -> float | None:
    """Return when the next attempt is due after `attempts` failures; None: the delivery is dead.

    Callbacks follow the schedule of Standard Webhooks. Publishing to the results exchange and the dead queue is retried
    without limit, unless no queue accepts the event; a reply queue, which belongs to its consumer, for about a day.
    """
    delay = _delay(channel, attempts)
    if delay is None:
        return None
    return now + max(delay * jitter.factor(delivery_id, attempts, 0.2), min(after or 0.0, MAX_RETRY_AFTER))


def seconds_retried(channel: Channel, failures: int) -> float:
    """Return how long a delivery has been retried at its last failure, without the random part of its pauses."""
    return sum(_delay(channel, earlier) or 0.0 for earlier in range(1, failures))


def _delay(channel: Channel, attempts: int) -> float | None:
    if channel is Channel.CALLBACK:
        return _CALLBACK_DELAYS[attempts - 1] if attempts <= len(_CALLBACK_DELAYS) else None
    if channel is Channel.QUEUE and attempts >= _REPLY_QUEUE_ATTEMPTS:
        return None
    return min(2.0 ** min(attempts, 16), _BROKER_MAX_DELAY)
