"""Hand an event to whoever asked for it, until it is confirmed."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

from bridge.core.delivery.model import Channel, Delivery, DeliveryState
from bridge.core.delivery.outcome import DeliveryOutcome, on_internal_error, outcome_of_attempt
from bridge.core.delivery.receivers import receiver_name
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.deliveries import Sender
from bridge.ports.lifecycle import Clock, Notify
from bridge.ports.store import Store

TICK = 1.0
IN_HAND_BYTES = 32 * 1024 * 1024  # of events, beyond which none are claimed; a claim has a limit of its own
MANY_BYTES = 4 * 1024 * 1024  # in one claim, after which there may be more than fitted into it

Claim = Callable[[int, float], Awaitable[list[Delivery]]]
"""Takes at most so many deliveries that are due at this moment."""

log = structlog.get_logger()


class DeliverEvents:
    """Sends the due deliveries of one way out through its sender.

    `notify`: whoever delivers may look again; a place of a receiver came free, or there is a notice to send.
    `results_exchange`: whether notices can be published.
    """

    kind = Quarantined.DELIVERY

    def __init__(
        self,
        name: str,
        claim: Claim,
        sender: Sender,
        store: Store,
        clock: Clock,
        notify: Notify,
        *,
        results_exchange: bool = True,
    ) -> None:
        self.name = name
        self._claim = claim
        self._sender = sender
        self._store = store
        self._clock = clock
        self._notify = notify
        self._results_exchange = results_exchange
        self._in_hand = 0
        self._held_up = False
        self._pause = TICK

    async def claim(self, room: int) -> Sequence[Delivery]:
        """Due deliveries; none while the way out is closed, so that waiting costs no attempts, or memory is short."""
        self._pause, self._held_up = TICK, self._in_hand >= IN_HAND_BYTES
        if self._held_up or not self._sender.ready:
            return []
        claimed = await self._claim(room, self._clock())
        size = sum(len(delivery.event.body) for delivery in claimed)
        self._in_hand += size
        self._pause = 0.0 if size >= MANY_BYTES else TICK
        return claimed

    async def handle(self, delivery: Delivery) -> None:
        """Send once and write down what came of it."""
        try:
            await self._send(delivery)
        finally:
            self._in_hand -= len(delivery.event.body)
            if self._held_up:
                self._notify()

    async def _send(self, delivery: Delivery) -> None:
        began = self._clock()
        answer = await self._sender.send(delivery)
        now = self._clock()
        outcome = outcome_of_attempt(delivery, answer, now, max(now - began, 0.0))
        _tell(outcome)
        if not self._results_exchange:
            outcome = replace(outcome, notices=())
        await self._store.record_outcome(outcome)
        if delivery.destination.channel is Channel.CALLBACK:
            self._notify()

    def about(self, delivery: Delivery) -> dict[str, object]:
        """Which delivery it is."""
        return {"delivery_id": delivery.delivery_id, "run_id": delivery.event.run_id}

    async def quarantine(self, delivery: Delivery) -> None:
        """Make it dead: it is kept, shown, and can be sent again."""
        await self._store.record_outcome(on_internal_error(delivery, self._clock()))
        self._notify()

    def pause(self) -> float:
        """Seconds until the next claim."""
        return self._pause


def _tell(outcome: DeliveryOutcome) -> None:
    delivery, receiver = outcome.delivery, outcome.receiver
    if delivery.state is not DeliveryState.DELIVERED:
        log.warning(
            "delivery_failed",
            delivery_id=delivery.delivery_id,
            run_id=delivery.event.run_id,
            attempts=delivery.attempts,
            state=delivery.state.value,
            reason=delivery.last_error,
        )
    if receiver is not None and receiver.paused_at is not None:
        log.error("receiver_paused", receiver=receiver_name(delivery.destination), failing_since=receiver.failing_since)
