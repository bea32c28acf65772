"""How runs and deliveries look in answers, and who may see them."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from bridge.adapters.http.auth import Client
from bridge.core.delivery import cloudevents
from bridge.core.delivery.model import Attempt, Channel, Delivery, DeliveryState, Destination
from bridge.core.errors import RequestRefused
from bridge.core.runs.model import Run, State
from bridge.core.runs.waiting import why_waiting
from bridge.ports.store import Store

RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def visible_run(store: Store, client: Client, run_id: str) -> Run:
    """The run, if this client may see it; one that it may not see does not exist for it (`unknown_run`)."""
    run = await store.show(run_id) if RUN_ID.fullmatch(run_id) else None
    if run is None or not client.may_see(run):
        raise RequestRefused("unknown_run", "no run has this id")
    return run


def accepted(run: Run) -> dict[str, Any]:
    """The answer to a new run; the same for every replay, wherever the run stands by then."""
    return {
        "run_id": run.run_id,
        "state": State.ACCEPTED.value,
        "crew": run.crew,
        "idempotency_key": run.request.idempotency_key,
        "accepted_at": cloudevents.timestamp(run.accepted_at),
    }


async def is_served(store: Store, run: Run) -> bool:
    """Whether any bridge has the crew of a run that has not ended; asked only for crews that this one does not have."""
    return run.final or await store.is_served(run.crew)


def run_as_listed(run: Run, *, served: bool) -> dict[str, Any]:
    """Return one run as lists show it: an event's data, and what the run waits for."""
    waiting = why_waiting(run, served=served)
    shown = waiting and {
        "reason": waiting.reason.value,
        "detail": waiting.detail,
        "since": cloudevents.timestamp(waiting.since),
        "until": cloudevents.timestamp(waiting.until),
    }
    return {**cloudevents.run_document(run), "waiting": shown}


async def run_in_full(store: Store, run: Run) -> dict[str, Any]:
    """One run with its deliveries, from the store."""
    return run_with_deliveries(run, await store.deliveries_for_run(run.run_id), served=await is_served(store, run))


def run_with_deliveries(run: Run, deliveries: Iterable[Delivery], *, served: bool) -> dict[str, Any]:
    """One run in full."""
    return {**run_as_listed(run, served=served), "deliveries": [delivery(one) for one in deliveries]}


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
        "next_attempt_at": cloudevents.timestamp(one.due_at) if pending and not one.paused else None,
        "last_error": one.last_error,
        "delivered_at": cloudevents.timestamp(one.delivered_at),
    }


def attempt(one: Attempt) -> dict[str, Any]:
    """One attempt; what the receiver answered as text, whatever bytes it was."""
    return {
        "number": one.number,
        "at": cloudevents.timestamp(one.at),
        "ms": round(one.seconds * 1000),
        "code": one.code,
        "error": one.error,
        "answer": None if one.answer is None else one.answer.decode("utf-8", "replace"),
    }


def _destination(where: Destination) -> str:
    """`exchange:…`, `queue:…` or a URL without user, query and fragment, which are often secrets."""
    if where.channel is not Channel.CALLBACK:
        return f"{where.channel.value}:{where.target}"
    parts = urlsplit(where.target)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
