"""How runs and deliveries look in answers."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from bridge.core import events
from bridge.core.model import Channel, Delivery, DeliveryState, Destination, Run, State


def accepted(run: Run) -> dict[str, Any]:
    """The answer to a new run; the same for every replay, wherever the run stands by then."""
    return {
        "run_id": run.run_id,
        "state": State.ACCEPTED.value,
        "crew": run.crew,
        "idempotency_key": run.request.idempotency_key,
        "accepted_at": events.timestamp(run.accepted_at),
    }


def run_with_deliveries(run: Run, deliveries: Iterable[Delivery]) -> dict[str, Any]:
    """One run in full."""
    return {**events.describe(run), "deliveries": [delivery(one) for one in deliveries]}


def delivery(one: Delivery) -> dict[str, Any]:
    """One delivery, without the event itself."""
    pending = one.state is DeliveryState.PENDING
    return {
        "id": one.delivery_id,
        "run_id": one.event.run_id,
        "event_id": one.event.event_id,
        "type": one.event.type,
        "destination": _destination(one.destination),
        "state": one.state.value,
        "attempts": one.attempts,
        "next_attempt_at": events.timestamp(one.due_at) if pending else None,
        "last_error": one.last_error,
    }


def _destination(where: Destination) -> str:
    """`exchange:…`, `queue:…` or a URL without user, query and fragment, which are often secrets."""
    if where.channel is not Channel.CALLBACK:
        return f"{where.channel.value}:{where.target}"
    parts = urlsplit(where.target)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
