"""What the delivery step needs from a way out of the bridge."""

from typing import Protocol

from bridge.core.delivery.model import Delivery
from bridge.core.delivery.outcome import SendResult


class Sender(Protocol):
    """One way out of the bridge."""

    @property
    def ready(self) -> bool:
        """Whether sending makes sense now; deliveries wait in the store while it does not."""

    async def send(self, delivery: Delivery) -> SendResult:
        """Hand one event over."""
