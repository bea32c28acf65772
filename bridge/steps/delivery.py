"""Send events to their destinations until each delivery is confirmed."""

from collections.abc import Awaitable, Callable, Sequence

import structlog

from bridge.core.delivery.model import Channel, Delivery, DeliveryState
from bridge.core.delivery.outcome import (
    DEFAULT_RULES,
    DeliveryOutcome,
    DeliveryRules,
    on_internal_error,
    outcome_of_attempt,
)
from bridge.core.delivery.receivers import receiver_name
from bridge.core.runs import trace_context
from bridge.core.runs.quarantine import Quarantined
from bridge.ports.deliveries import DeliveryStore, Sender
from bridge.ports.lifecycle import Clock
from bridge.ports.tracing import NOT_TRACED, Tracing
from bridge.signals import Signals

TICK = 1.0
MAX_BYTES_IN_PROGRESS = 32 * 1024 * 1024  # of events, beyond which none are claimed; a single claim has its own limit
LARGE_CLAIM_BYTES = 4 * 1024 * 1024  # a claim of this size may have left due deliveries behind

Claim = Callable[[int, float], Awaitable[list[Delivery]]]
"""Claims at most so many deliveries that are due at the given time."""

log = structlog.get_logger()


class DeliverEvents:
    """Sends the due deliveries of one group of channels through their sender."""

    kind = Quarantined.DELIVERY

    def __init__(
        self,
        name: str,
        claim: Claim,
        sender: Sender,
        store: DeliveryStore,
        clock: Clock,
        signals: Signals,
        rules: DeliveryRules = DEFAULT_RULES,
        tracing: Tracing = NOT_TRACED,
    ) -> None:
        self.name = name
        self._claim = claim
        self._sender = sender
        self._store = store
        self._clock = clock
        self._signals = signals
        self._rules = rules
        self._tracing = tracing
        self._bytes_in_progress = 0
        self._memory_full = False
        self._pause = TICK

    async def claim(self, limit: int) -> Sequence[Delivery]:
        """Claim due deliveries; none while the sender is not ready, which costs no attempts, or memory is full."""
        self._pause, self._memory_full = TICK, self._bytes_in_progress >= MAX_BYTES_IN_PROGRESS
        if self._memory_full or not self._sender.ready:
            return []
        claimed = await self._claim(limit, self._clock())
        size = sum(len(delivery.event.body) for delivery in claimed)
        self._bytes_in_progress += size
        self._pause = 0.0 if size >= LARGE_CLAIM_BYTES else TICK
        return claimed

    async def handle(self, delivery: Delivery) -> None:
        """Make one attempt and record its outcome."""
        try:
            await self._send(delivery)
        finally:
            self._bytes_in_progress -= len(delivery.event.body)
            if self._memory_full:
                self._signals.deliver()

    async def _send(self, delivery: Delivery) -> None:
        began = self._clock()
        result = await self._sender.send(self._tracing.addressed(delivery))
        now = self._clock()
        outcome = outcome_of_attempt(delivery, result, now, max(now - began, 0.0), self._rules)
        _log(outcome)
        self._tracing.attempted(outcome)
        await self._store.record_outcome(outcome)
        if delivery.destination.channel is Channel.CALLBACK:
            self._signals.deliver()  # the receiver has a free slot, or there is a notice to send

    def about(self, delivery: Delivery) -> dict[str, object]:
        """Identify the delivery."""
        event = delivery.event
        trace_id = trace_context.log_fields(delivery.traceparent)
        return {"delivery_id": delivery.delivery_id, "run_id": event.run_id, **trace_id}

    async def quarantine(self, delivery: Delivery) -> None:
        """Make the delivery dead: it is kept, listed, and can be redelivered."""
        await self._store.record_outcome(on_internal_error(delivery, self._clock()))
        self._signals.deliver()

    def pause(self) -> float:
        """Seconds until the next claim."""
        return self._pause


def _log(outcome: DeliveryOutcome) -> None:
    delivery, receiver = outcome.delivery, outcome.receiver
    if delivery.state is not DeliveryState.DELIVERED:
        log.warning(
            "delivery_failed",
            delivery_id=delivery.delivery_id,
            run_id=delivery.event.run_id,
            attempts=delivery.attempts,
            state=delivery.state.value,
            reason=delivery.last_error,
            **trace_context.log_fields(delivery.traceparent),
        )
    if receiver is not None and receiver.paused_at is not None:
        log.error("receiver_paused", receiver=receiver_name(delivery.destination), failing_since=receiver.failing_since)
