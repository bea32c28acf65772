"""Hands new deliveries to this process's senders without a claim.

This process can own a delivery as soon as it is written; a claim would be one more durable transaction between the end
of a run and its event. Measured: 1.0 ms instead of 1.8 from the end to the sender. Only deliveries of channels that a
sender requested recently are handed off, and only as many as will be sent soon; all others are claimed from the store.
"""

from collections.abc import Collection, Sequence
from itertools import islice

from bridge.core.delivery.model import Channel, Delivery

MAX_DELIVERIES = 256
MAX_BYTES = 16 * 1024 * 1024  # of their events
REQUESTED_WITHIN = 3.0  # seconds since the last request for a channel; an unavailable sender makes none
ASK_STORE_INTERVAL = 0.5  # seconds between claims from the store while there are always handed-off deliveries


class LocalHandoff:
    """Keeps deliveries that this process wrote and has not begun to send, and decides when to claim from the store."""

    def __init__(self) -> None:
        self._waiting: dict[str, Delivery] = {}
        self._waiting_bytes = 0  # of their events
        self._requested_at: dict[Channel, float] = {}
        self._store_claimed_at = 0.0
        self._more_in_store = True

    def to_own(self, new: Sequence[Delivery]) -> list[Delivery]:
        """Return the new deliveries that this process should own from the start."""
        size = self._waiting_bytes + _bytes(new)
        if len(self._waiting) >= MAX_DELIVERIES or size > MAX_BYTES:
            self._more_in_store = True
            return []
        return [delivery for delivery in new if self._is_requested(delivery)]

    def add(self, written: Sequence[Delivery]) -> None:
        """Add deliveries that this process has written and owns."""
        self._waiting_bytes += _bytes([delivery for delivery in written if delivery.delivery_id not in self._waiting])
        self._waiting |= {delivery.delivery_id: delivery for delivery in written}

    def take(self, channels: Collection[Channel], limit: int, now: float) -> list[Delivery]:
        """Take at most `limit` due deliveries, in the order written."""
        self._requested_at |= dict.fromkeys(channels, now)
        waiting = self._waiting.values()
        due = (item for item in waiting if item.destination.channel in channels and item.due_at <= now)
        return self._remove(list(islice(due, limit)))

    def slots_for_store(self, limit: int, now: float) -> int:
        """Return how many of `limit` slots to reserve for the store: half, at least one, because it has older ones."""
        if 0 <= now - self._store_claimed_at < ASK_STORE_INTERVAL and not self._more_in_store:
            return 0
        return (limit + 1) // 2

    def claimed_from_store(self, number: int, limit: int, now: float) -> None:
        """Record that a claim of at most `limit` deliveries returned `number`."""
        self._more_in_store = number == limit
        self._store_claimed_at = now

    def take_unclaimed(self, now: float) -> list[Delivery]:
        """Remove and return deliveries not taken for so long that other processes should send them."""
        waiting = self._waiting.values()
        return self._remove([delivery for delivery in waiting if now - delivery.due_at > 2 * REQUESTED_WITHIN])

    def clear(self) -> None:
        """Remove all deliveries, because this process no longer owns them."""
        self._waiting.clear()
        self._waiting_bytes = 0

    def _remove(self, deliveries: list[Delivery]) -> list[Delivery]:
        for delivery in deliveries:
            del self._waiting[delivery.delivery_id]
        self._waiting_bytes -= _bytes(deliveries)
        return deliveries

    def _is_requested(self, new: Delivery) -> bool:
        requested_at = self._requested_at.get(new.destination.channel)
        return requested_at is not None and new.due_at - requested_at < REQUESTED_WITHIN


def _bytes(deliveries: Sequence[Delivery]) -> int:
    return sum(len(delivery.event.body) for delivery in deliveries)
