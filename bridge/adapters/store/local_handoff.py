"""Hands new deliveries to this process's senders without a claim.

A delivery can belong to the process from the moment it is written; a claim would add a transaction between the end of
a run and its event. This applies only to channels that a sender asked for recently, and to no more deliveries than are
soon sent; everything else waits in the store to be claimed.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from bridge.core.delivery.model import Channel, Delivery

MOST = 256  # deliveries at once
MOST_BYTES = 16 * 1024 * 1024  # of their events
REQUESTED_WITHIN = 3.0  # seconds since a way out was asked for; one that is closed is not asked for
ASK_STORE_INTERVAL = 0.5  # seconds, for what others left, while there is always something of our own


class LocalHandoff:
    """Keeps deliveries that this process wrote and has not begun to send, and when to ask the store for more."""

    def __init__(self) -> None:
        self._waiting: dict[str, Delivery] = {}
        self._asked_at: dict[Channel, float] = {}
        self._store_asked_at = 0.0
        self._more_in_store = True
        self._odd_slot_for_store = False

    def ids_to_own(self, new: Sequence[Delivery]) -> frozenset[str]:
        """The ids of those new deliveries that this process should own when it writes them."""
        if len(self._waiting) >= MOST or self._bytes(self._waiting.values()) + self._bytes(new) > MOST_BYTES:
            self._more_in_store = True
            return frozenset()
        return frozenset(one.delivery_id for one in new if self._is_asked_for(one))

    def add(self, written: Sequence[Delivery]) -> None:
        """Add deliveries that were written and belong to this process."""
        self._waiting |= {one.delivery_id: one for one in written}

    def take(self, channels: Collection[Channel], room: int, now: float) -> list[Delivery]:
        """Take at most `room` due deliveries, in the order written."""
        self._asked_at |= dict.fromkeys(channels, now)
        due = (one for one in self._waiting.values() if one.destination.channel in channels and one.due_at <= now)
        wanted = list(islice(due, room))
        for one in wanted:
            del self._waiting[one.delivery_id]
        return wanted

    def store_share(self, room: int, now: float) -> int:
        """Return how many of `room` slots are reserved for deliveries in the store.

        Half of them, and a single one by turns.
        """
        if 0 <= now - self._store_asked_at < ASK_STORE_INTERVAL and not self._more_in_store:
            return 0
        self._odd_slot_for_store = not self._odd_slot_for_store
        return (room + self._odd_slot_for_store) // 2

    def store_returned(self, number: int, room: int, now: float) -> None:
        """The store was asked for `room` deliveries and gave so many."""
        self._more_in_store = number == room
        self._store_asked_at = now

    def take_unclaimed(self, now: float) -> list[Delivery]:
        """Remove and return deliveries not taken for so long that other processes should send them."""
        unclaimed = [one for one in self._waiting.values() if now - one.due_at > 2 * REQUESTED_WITHIN]
        for one in unclaimed:
            del self._waiting[one.delivery_id]
        return unclaimed

    def clear(self) -> None:
        """Forget everything; the process owns none of it any more."""
        self._waiting.clear()

    @staticmethod
    def _bytes(some: Iterable[Delivery]) -> int:
        return sum(len(one.event.body) for one in some)

    def _is_asked_for(self, new: Delivery) -> bool:
        asked_at = self._asked_at.get(new.destination.channel)
        return asked_at is not None and new.due_at - asked_at < REQUESTED_WITHIN
