"""Shared state of the processes on one store: membership, released runs, and relayed webhooks."""

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection, Row, bindparam, delete, exists, func, select, text, update

from bridge.adapters.store import dialect
from bridge.adapters.store.schema import OPEN, relayed_webhooks, runs, served_crews
from bridge.core.crew.fair_share import Membership
from bridge.core.crew.webhooks import Kind
from bridge.core.runs.model import State
from bridge.ports.store import RelayedWebhook

log = structlog.get_logger()

_IN_PROGRESS = [State.STARTING.value, State.RUNNING.value, State.WAITING_FOR_HUMAN.value]
_NEXT_CREW = select(func.min(runs.c.crew)).where(text(OPEN), runs.c.crew > bindparam("after"))
_COUNT_OPEN = select(func.count()).where(text(OPEN), runs.c.crew == bindparam("crew"))
_TRACKED = runs.c.state.in_([State.RUNNING.value, State.WAITING_FOR_HUMAN.value])


def count_membership(connection: Connection, process: str, crews: Collection[str]) -> dict[str, Membership]:
    """Count, per crew, the processes that serve it and the tracked runs."""
    serving = select(served_crews.c.crew, func.count()).where(served_crews.c.crew.in_(crews))
    alive = {row[0]: row[1] for row in connection.execute(serving.group_by(served_crews.c.crew))}
    own_runs = func.count().filter(runs.c.owner == process)
    tracked_runs = select(runs.c.crew, func.count(), own_runs).where(text(OPEN), _TRACKED, runs.c.crew.in_(crews))
    counts = {row[0]: (row[1], row[2]) for row in connection.execute(tracked_runs.group_by(runs.c.crew))}
    return {crew: Membership(alive.get(crew, 0), *counts.get(crew, (0, 0))) for crew in crews}


def crews_served(connection: Connection) -> frozenset[str]:
    """Return the crews that at least one process serves."""
    return frozenset(connection.execute(select(served_crews.c.crew).distinct()).scalars())


def unserved(connection: Connection) -> dict[str, int]:
    """Count the unfinished runs of each crew that no process serves.

    Skips from one crew to the next by the index, so that the runs of served crews are not read.
    """
    alive, counts = crews_served(connection), dict[str, int]()
    after = ""
    while (crew := connection.execute(_NEXT_CREW, {"after": after}).scalar_one()) is not None:
        if crew not in alive:
            counts[crew] = connection.execute(_COUNT_OPEN, {"crew": crew}).scalar_one()
        after = crew
    return counts


def release_runs(connection: Connection, process: str, run_ids: Sequence[str]) -> int:
    """Release tracked runs and return how many; their new versions discard responses that are still in progress."""
    own_runs = runs.c.run_id.in_(run_ids) & (runs.c.owner == process) & _TRACKED
    return connection.execute(update(runs).where(own_runs).values(owner=None, version=runs.c.version + 1)).rowcount


def relay_webhooks(connection: Connection, webhooks: Sequence[RelayedWebhook]) -> list[None]:
    """Store webhooks for the owners of their runs; skip one that equals a stored one."""
    rows = [_row_from(webhook) for webhook in webhooks]
    connection.execute(dialect.insert_or_ignore(connection, relayed_webhooks), rows)
    return [None] * len(webhooks)


def take_webhooks(connection: Connection, process: str, crews: Collection[str], room: int) -> list[RelayedWebhook]:
    """Take the relayed webhooks for the process's runs, and for unowned runs of its crews that are not in progress.

    The latter may resolve a doubt, or name the execution of a run that has ended. A webhook that cannot be decoded is
    deleted, because it would fail on every read.
    """
    waiting = runs.c.owner.is_(None) & runs.c.state.not_in(_IN_PROGRESS) & runs.c.crew.in_(crews)
    own_runs = exists().where(runs.c.run_id == relayed_webhooks.c.run_id, (runs.c.owner == process) | waiting)
    ids = connection.execute(select(relayed_webhooks.c.webhook_id).where(own_runs).limit(room)).scalars().all()
    if not ids:
        return []
    taken = connection.execute(
        delete(relayed_webhooks).where(relayed_webhooks.c.webhook_id.in_(ids)).returning(relayed_webhooks)
    )
    return [webhook for row in taken if (webhook := _webhook_from_row(row)) is not None]


def _webhook_from_row(row: Row[Any]) -> RelayedWebhook | None:
    try:
        return RelayedWebhook(row.run_id, row.attempt, Kind(row.kind), json.loads(row.content))
    except (ValueError, RecursionError) as error:
        log.warning("crew_webhook_discarded", run_id=row.run_id, reason=type(error).__name__)
        return None


def _row_from(webhook: RelayedWebhook) -> dict[str, object]:
    content = json.dumps(webhook.content).encode()
    digest = hashlib.sha256(webhook.kind.encode() + content).hexdigest()[:32]
    return {
        "webhook_id": f"{webhook.run_id}-{webhook.attempt}-{digest}",
        "run_id": webhook.run_id,
        "attempt": webhook.attempt,
        "kind": webhook.kind.value,
        "content": content,
    }
