"""What the delivery step needs from a sender and from the store."""

from collections.abc import Sequence
from typing import Protocol

from bridge.core.delivery.model import Channel, Delivery
from bridge.core.delivery.outcome import DeliveryOutcome, SendResult
from bridge.core.delivery.receivers import ConcurrencyLimits


class Sender(Protocol):
    """Sends events over one kind of channel: the broker, or callbacks."""

    @property
    def ready(self) -> bool:
        """Whether it can send now; until then, deliveries wait in the store."""

    async def send(self, delivery: Delivery) -> SendResult:
        """Make one attempt at a delivery."""


class DeliveryStore(Protocol):
    """Stores deliveries. Claims and `add` raise `StoreUnavailable` during an outage.

    `record_outcome` is retried until the store is available, because the attempt has been made.
    """

    async def add(self, new: Sequence[Delivery]) -> None:
        """Store deliveries that belong to no run, such as dead letters and notices."""

    async def claim(self, channels: Sequence[Channel], limit: int, now: float) -> list[Delivery]:
        """Claim due deliveries of these channels, the longest due first."""

    async def claim_callbacks(self, limit: int, limits: ConcurrencyLimits, now: float) -> list[Delivery]:
        """Claim due callback deliveries: per receiver up to its concurrency limit, for a paused receiver none."""

    async def record_outcome(self, outcome: DeliveryOutcome) -> None:
        """Write the outcome of an attempt, and release the delivery."""
