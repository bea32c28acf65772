"""JSON representations of runs and deliveries, and the run that a path names."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from bridge.adapters.http import problems
from bridge.adapters.http.auth import Client
from bridge.adapters.http.body import DETAILS
from bridge.core.delivery import events
from bridge.core.delivery.model import Attempt, Channel, Delivery, DeliveryState, Destination
from bridge.core.errors import RequestRefused
from bridge.core.runs import history, trace_context
from bridge.core.runs.model import RequestWarning, Run, State
from bridge.core.runs.waiting import Waiting
from bridge.ports.inbound import ExplainWaiting
from bridge.ports.queries import Queries, RunFilter

HISTORY_DELIVERIES = 100  # the newest ones that a history contains

RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ANY_RUN_ID = "00000000-0000-0000-0000-000000000000"


async def load_visible_run(store: Queries, client: Client, text: str) -> Run:
    """Return the run with this id, or with the only visible id that begins so.

    Raise `RequestRefused`: `unknown_run` if it does not exist or the client may not see it, or `ambiguous_run_id`.
    """
    run = await store.load_for_api(await complete_run_id(store, client, text))
    if run is None or not client.may_see(run):
        raise RequestRefused("unknown_run", "no run with this id")
    return run


async def load_commanded_run(store: Queries, client: Client, request: web.Request) -> Run:
    """Return the run that the path of a command names; its whole id goes to the audit log.

    Raise as `load_visible_run`, and a `Problem` if the client may not command it.
    """
    run = await load_visible_run(store, client, request.match_info["run_id"])
    request[DETAILS] = {"run_id": run.run_id, **trace_context.log_fields(run.traceparent)}
    if not client.may_command(run):
        raise problems.from_status(403, "this client did not submit the run; the role operate is required")
    return run


async def complete_run_id(store: Queries, client: Client, text: str) -> str:
    """Return a whole id as it is, otherwise the only visible run's id that begins so. Raise `RequestRefused`."""
    if RUN_ID.fullmatch(text):
        return text
    if text and RUN_ID.fullmatch(text + _ANY_RUN_ID[len(text) :]):
        source = None if client.sees_all else client.source
        found = await store.find_runs(RunFilter(crews=client.crews, source=source, limit=2, prefix=text))
        if len(found.items) == 1 and not found.more:
            return found.items[0].run_id
        if found.items:
            raise RequestRefused("ambiguous_run_id", "several runs have ids that begin so; give more of the id")
    raise RequestRefused("unknown_run", "no run with this id")


def location(base_path: str, run: Run) -> str:
    """Return the path of a run, as callers see it."""
    return f"{base_path}/v1/runs/{run.run_id}"


def accepted(run: Run, warnings: Sequence[RequestWarning] = ()) -> dict[str, Any]:
    """Return the response to a new run; replays return the same, whatever the run's state is by then."""
    shown: dict[str, Any] = {"warnings": [asdict(warning) for warning in warnings]} if warnings else {}
    if run.request.retry_of is not None:
        shown["retry_of"] = run.request.retry_of
    return shown | {
        "run_id": run.run_id,
        "state": State.ACCEPTED.value,
        "crew": run.crew,
        "idempotency_key": run.request.idempotency_key,
        "accepted_at": events.timestamp(run.accepted_at),
    }


def run_summary(run: Run, waiting: Waiting | None = None) -> dict[str, Any]:
    """Return one run as in lists: an event's data without the tasks, and what the run waits for."""
    shown = waiting and {
        "reason": waiting.reason.value,
        "detail": waiting.detail,
        "since": events.timestamp(waiting.since),
        "until": events.timestamp(waiting.until),
    }
    document = events.run_document(run)
    del document["tasks"]
    return {**document, "waiting": shown}


async def load_run_detail(store: Queries, explain_waiting: ExplainWaiting, run: Run) -> dict[str, Any]:
    """Return one run with what it waits for, and with its deliveries, which are read from the store."""
    waiting = await explain_waiting([run])
    return run_detail(run, await store.deliveries_for_run(run.run_id), waiting.get(run.run_id))


def run_detail(run: Run, deliveries: Sequence[Delivery], waiting: Waiting | None = None) -> dict[str, Any]:
    """Return one run with its tasks, its history, and its deliveries."""
    return {
        **events.run_document(run),
        **run_summary(run, waiting),
        "history": run_history(run, deliveries),
        "retry_of": run.request.retry_of,
        "trace_id": run.traceparent and trace_context.trace_id(run.traceparent),
        "deliveries": [delivery(one) for one in deliveries],
    }


def run_history(run: Run, deliveries: Sequence[Delivery]) -> list[dict[str, Any]]:
    """Return what happened to a run, oldest first, with the events and confirmations of its newest deliveries."""
    entries = history.decoded(run.history)
    for one in deliveries[-HISTORY_DELIVERIES:]:
        about = {"type": one.event.type, "destination": _destination(one.destination)}
        entries.append({"at": one.event.created_at, "event": "event_created", **about})
        if one.delivered_at is not None:
            entries.append({"at": one.delivered_at, "event": "delivered", **about, "attempts": one.attempts})
    entries.sort(key=lambda entry: float(entry["at"]))
    return [{**entry, "at": events.timestamp(entry["at"])} for entry in entries]


def delivery(one: Delivery) -> dict[str, Any]:
    """Return one delivery, without the event."""
    pending = one.state is DeliveryState.PENDING
    return {
        "id": one.delivery_id,
        "run_id": one.event.run_id,
        "event_id": one.event.event_id,
        "type": one.event.type,
        "destination": _destination(one.destination),
        "state": one.state.value,
        "attempts": one.attempts,
        "earlier_attempts": one.earlier_attempts,
        "next_attempt_at": events.timestamp(one.due_at) if pending and not one.paused else None,
        "last_error": one.last_error,
        "delivered_at": events.timestamp(one.delivered_at),
    }


def attempt(one: Attempt) -> dict[str, Any]:
    """Return one attempt; the receiver's response is decoded leniently."""
    return {
        "number": one.number,
        "at": events.timestamp(one.at),
        "ms": round(one.seconds * 1000),
        "code": one.code,
        "error": one.error,
        "response": None if one.response is None else one.response.decode("utf-8", "replace"),
    }


def _destination(where: Destination) -> str:
    """Return `exchange:…`, `queue:…`, or a URL without user, query, and fragment, which often contain secrets."""
    if where.channel is not Channel.CALLBACK:
        return f"{where.channel.value}:{where.target}"
    parts = urlsplit(where.target)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
