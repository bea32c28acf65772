"""The inbox: crew webhooks that have not been handled yet."""

import json
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, or_, select, update

from bridge.adapters.store import dialect
from bridge.adapters.store.connections import Connections
from bridge.adapters.store.group_commit import Batches
from bridge.adapters.store.ownership import Ownership
from bridge.adapters.store.queries.claims import CLAIM_BYTES, delete_retained
from bridge.adapters.store.queries.run_lists import ids_within
from bridge.adapters.store.schema import runs, webhook_inbox
from bridge.core.crew.webhooks import Kind
from bridge.core.runs.model import TRACKED_STATES, State
from bridge.ports.webhook_inbox import InboxEntry

MAX_PER_RUN = 500  # entries of one run
MAX_BYTES_PER_RUN = 4 * 1024 * 1024
_PROGRESS = frozenset({Kind.TASK, Kind.STEP})  # leave half of the room to ends, starts, and questions
MAX_FLOW_QUESTIONS = 1000  # of one crew, whose runs are not known yet

log = structlog.get_logger()

_entries = webhook_inbox.c
_ORDER = (_entries.kind.in_([kind.value for kind in _PROGRESS]), _entries.received_at, _entries.entry_id)


class SqlWebhookInbox:
    """`ports.WebhookInbox` of one process, which serves these crews."""

    def __init__(self, batches: Batches, reader: Connections, ownership: Ownership, crews: Collection[str]) -> None:
        self._batches = batches
        self._reader = reader
        self._ownership = ownership
        self._crews = crews

    async def add(self, entry: InboxEntry) -> bool:
        return await self._batches.write_one(partial(_add, entry=entry))

    async def due(self, limit: int, now: float, handling: Collection[str]) -> Sequence[InboxEntry]:
        """Return the oldest due entries that this process can handle; delete those that cannot be decoded."""
        find = partial(
            _due, process=self._ownership.process, crews=sorted(self._crews), limit=limit, now=now, handling=handling
        )
        entries, unreadable = [], []
        for row in await self._reader.read(find):
            try:
                entries.append(_entry_from_row(row))
            except (ValueError, RecursionError) as error:
                log.warning("crew_webhook_discarded", run_id=row.run_id, reason=type(error).__name__)
                unreadable.append(row.entry_id)
        for entry_id in unreadable:
            await self.remove(entry_id)
        return entries

    async def postpone(self, entry_id: str, due_at: float) -> None:
        await self._batches.write_one(partial(_update, entry_id=entry_id, due_at=due_at))

    async def retain(self, entry_id: str) -> None:
        await self._batches.write_one(partial(_retain, entry_id=entry_id, owner=self._ownership.process))

    async def remove(self, entry_id: str) -> None:
        await self._batches.write_one(partial(_remove, entry_id=entry_id))


def _add(connection: Connection, entry: InboxEntry) -> bool:
    flow_questions = and_(_entries.run_id.is_(None), _entries.crew == entry.crew)
    same = flow_questions if entry.run_id is None else _entries.run_id == entry.run_id
    content = json.dumps(entry.content).encode()
    if not _has_room(connection, same, entry, len(content)):
        return False
    values = {
        "entry_id": entry.entry_id,
        "crew": entry.crew,
        "run_id": entry.run_id,
        "attempt": entry.attempt,
        "kickoff_id": entry.kickoff_id,
        "kind": entry.kind.value,
        "content": content,
        "received_at": entry.received_at,
        "due_at": entry.received_at,
        "owner": None,
    }
    connection.execute(dialect.insert_or_replace(connection, webhook_inbox), values)
    if entry.run_id is None:
        repeated = and_(flow_questions, _entries.kickoff_id == entry.kickoff_id, _entries.entry_id != entry.entry_id)
        connection.execute(delete(webhook_inbox).where(repeated))
    return True


def _has_room(connection: Connection, same: ColumnElement[bool], entry: InboxEntry, size: int) -> bool:
    """Return whether there is room for an entry beside the `same` ones; a single entry always has room."""
    number, stored = connection.execute(
        select(func.count(), func.coalesce(func.sum(func.length(_entries.content)), 0)).where(same)
    ).one()
    if entry.run_id is None:
        return bool(number < MAX_FLOW_QUESTIONS)
    part = 2 if entry.kind in _PROGRESS else 1
    return bool(number < MAX_PER_RUN // part and (not number or stored + size <= MAX_BYTES_PER_RUN // part))


def _due(
    connection: Connection, process: str, crews: Sequence[str], limit: int, now: float, handling: Collection[str]
) -> Sequence[Row[Any]]:
    ready = and_(runs.c.state != State.STARTING.value, or_(runs.c.owner.is_(None), runs.c.owner == process))
    query = (
        select(_entries.entry_id, func.length(_entries.content))
        .outerjoin(runs, runs.c.run_id == _entries.run_id)
        .where(
            _entries.crew.in_(crews),
            _entries.due_at <= now,
            or_(_entries.owner.is_(None), _entries.owner != process),
            or_(_entries.run_id.is_(None), ready),
            _entries.entry_id.not_in(handling),
        )
        .order_by(*_ORDER)
        .limit(limit)
    )
    sizes = [(entry_id, size) for entry_id, size in connection.execute(query)]
    ids = list(ids_within(sizes, CLAIM_BYTES))
    if not ids:
        return []
    found = select(webhook_inbox).where(_entries.entry_id.in_(ids)).order_by(*_ORDER)
    return connection.execute(found).all()


def _update(connection: Connection, entry_id: str, **values: Any) -> None:
    connection.execute(update(webhook_inbox).where(_entries.entry_id == entry_id).values(values))


def _retain(connection: Connection, entry_id: str, owner: str) -> None:
    entry = _entries.entry_id == entry_id
    of_run = select(_entries.run_id).where(entry).scalar_subquery()
    run = select(runs.c.run_id).where(runs.c.run_id == of_run, runs.c.state.in_(TRACKED_STATES))
    run_id = connection.execute(run.with_for_update(read=True)).scalar()
    if run_id is not None:
        delete_retained(connection, [run_id])
        _update(connection, entry_id, owner=owner)


def _remove(connection: Connection, entry_id: str) -> None:
    connection.execute(delete(webhook_inbox).where(_entries.entry_id == entry_id))


def _entry_from_row(row: Row[Any]) -> InboxEntry:
    return InboxEntry(
        row.entry_id, row.crew, Kind(row.kind), json.loads(row.content), row.received_at, row.run_id, row.attempt,
        row.kickoff_id,
    )  # fmt: skip
