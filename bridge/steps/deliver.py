"""Step 5: hand an event to whoever asked for it, until it is confirmed."""

from collections.abc import Sequence

import structlog

from bridge.core.delivering import on_delivery
from bridge.core.model import Channel, Delivery, DeliveryState
from bridge.ports import Clock, Sender, Store

TICK = 1.0

log = structlog.get_logger()


class Deliver:
    """Sends the due deliveries of some channels through one sender."""

    def __init__(self, name: str, channels: Sequence[Channel], sender: Sender, store: Store, clock: Clock) -> None:
        self.name = name
        self._channels = channels
        self._sender = sender
        self._store = store
        self._clock = clock

    async def claim(self, room: int) -> Sequence[Delivery]:
        """Due deliveries; none while the way out is closed, so that waiting costs no attempts."""
        if not self._sender.ready:
            return []
        return await self._store.claim_deliveries(self._channels, room, self._clock())

    async def handle(self, delivery: Delivery) -> None:
        """Send once and write down what came of it."""
        answer = await self._sender.send(delivery)
        settled = on_delivery(delivery, answer, self._clock())
        if settled.state is not DeliveryState.DELIVERED:
            log.warning(
                "delivery_failed",
                delivery_id=delivery.delivery_id,
                run_id=delivery.event.run_id,
                attempts=settled.attempts,
                state=settled.state.value,
                reason=settled.last_error,
            )
        await self._store.settle_delivery(settled)

    def pause(self) -> float:
        """Seconds until the next claim."""
        return TICK
