"""What the delivery step needs from a sender."""

from typing import Protocol

from bridge.core.delivery.model import Delivery
from bridge.core.delivery.outcome import SendResult


class Sender(Protocol):
    """Sends events over one kind of channel: the broker, or callbacks."""

    @property
    def ready(self) -> bool:
        """Whether it can send now; until then, deliveries wait in the store."""

    async def send(self, delivery: Delivery) -> SendResult:
        """Make one attempt at a delivery."""
