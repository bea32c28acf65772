"""When to retry a delivery, by its channel and the attempts made."""

from bridge.core.delivery.model import Channel
from bridge.core.http.retry_after import MAX_RETRY_AFTER
from bridge.core.jitter import _jitter

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
_REPLY_QUEUE_ATTEMPTS = 34  # about a day; a reply queue that is gone for that long does not come back


def deliver_again(delivery_id: str, channel: Channel, attempts: int, now: float, after: float | None) -> float | None:
    """When to try a delivery again after `attempts` failures; None: never, it is dead.

    Callback URLs follow the schedule that Standard Webhooks proposes. The results exchange and the dead queue are ours
    and are retried without limit; a reply queue belongs to its consumer and is given up after about a day.
    """
    delay = _delivery_delay(channel, attempts)
    if delay is None:
        return None
    return now + max(delay * _jitter(delivery_id, attempts, 0.2), min(after or 0.0, MAX_RETRY_AFTER))


def _delivery_delay(channel: Channel, attempts: int) -> float | None:
    if channel is Channel.CALLBACK:
        return _CALLBACK_DELAYS[attempts - 1] if attempts <= len(_CALLBACK_DELAYS) else None
    if channel is Channel.QUEUE and attempts >= _REPLY_QUEUE_ATTEMPTS:
        return None
    return min(2.0 ** min(attempts, 16), _BROKER_MAX_DELAY)
