"""Copies a store into an unused one: in batches, resumable, verified by counts and hashes."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, select, tuple_, update
from sqlalchemy.exc import DBAPIError

from bridge.adapters.store import dialect
from bridge.adapters.store.database import Database, database, open_database
from bridge.adapters.store.errors import driver_message
from bridge.adapters.store.schema import COPYING, metadata, processes, served_crews, store_metadata
from bridge.core.errors import StoreInUse, StoreUnavailable

BATCH = 500  # rows
ALIVE_WITHIN = 30.0  # seconds since the last heartbeat of a process that counts as alive

_TABLES = [table for table in metadata.sorted_tables if table not in (store_metadata, processes, served_crews)]
"""Tables copied in batches. `store_metadata` is copied first; processes and their crews belong to the source alone."""

Progress = Callable[[str, int, int], None]
"""The name of a table, how many of its rows are copied, and how many there are."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copy in progress; `reached`: the last copied key of each table."""

    source: Engine
    target: Engine
    reached: dict[str, list[Any]]
    progress: Progress


async def copy_store(source_url: str, target_url: str, progress: Progress) -> dict[str, int]:
    """Copy everything and return the number of rows of each table. `progress` is called in a thread.

    After an interruption, another call resumes the copy. Raises `StoreInUse` while a bridge uses either store, and
    `StoreUnavailable` if the source does not exist, the target is not empty, or the stores differ at the end.
    """
    source, target = database(source_url), database(target_url)
    if source.health_if_missing() is not None:
        raise StoreUnavailable("the store to copy from does not exist")
    try:
        async with AsyncExitStack() as stack:
            from_engine = await _alone(stack, source, migrate=False)
            to_engine = await _alone(stack, target, migrate=True)
            return await asyncio.to_thread(_copy_all, from_engine, to_engine, progress)
    except DBAPIError as error:
        raise StoreUnavailable(f"the copy was interrupted, run it again: {driver_message(error)}") from None


async def _alone(stack: AsyncExitStack, base: Database, *, migrate: bool) -> Engine:
    """Open a database that no bridge uses; return its engine."""
    writer = await stack.enter_async_context(open_database(base, migrate=migrate))
    if base.shared and await writer.run(_is_in_use):
        raise StoreInUse("a bridge uses the store: stop it first")
    return writer.engine


def _is_in_use(connection: Connection) -> bool:
    recent = processes.c.heartbeat_at >= dialect.clock(connection, 0.0) - ALIVE_WITHIN
    return connection.execute(select(processes.c.name).where(recent)).first() is not None


def _copy_all(source: Engine, target: Engine, progress: Progress) -> dict[str, int]:
    copy = _Copy(source, target, _begin(source, target), progress)
    counts = {table.name: _copy_table(copy, table) for table in _TABLES}
    _check(copy)
    with target.begin() as connection:
        connection.execute(delete(store_metadata).where(store_metadata.c.name == COPYING))
    return counts


def _begin(source: Engine, target: Engine) -> dict[str, list[Any]]:
    """Mark the target as a copy of this source, or return how far an interrupted copy came."""
    with source.begin() as connection:
        found = {row.name: row.value for row in connection.execute(select(store_metadata))}
    if COPYING in found:
        raise StoreUnavailable("the store to copy from is an unfinished copy itself")
    identity = hashlib.sha256(found.get("amp", b"")).hexdigest()
    with target.begin() as connection:
        there = {row.name: row.value for row in connection.execute(select(store_metadata))}
        if COPYING in there:
            mark = json.loads(there[COPYING])
            if mark["source"] != identity:
                raise StoreUnavailable("the store to copy to is an unfinished copy of another store")
            reached: dict[str, list[Any]] = mark["reached"]
            return reached
        for table in _TABLES:
            if connection.execute(select(*table.primary_key).limit(1)).first():
                raise StoreUnavailable("the store to copy to is not empty")
        connection.execute(delete(store_metadata))
        rows = [{"name": name, "value": value} for name, value in found.items()]
        connection.execute(store_metadata.insert(), [*rows, {"name": COPYING, "value": _progress_value(identity, {})}])
    return {}


def _copy_table(copy: _Copy, table: Table) -> int:
    with copy.source.begin() as connection:
        total: int = connection.execute(select(func.count()).select_from(table)).scalar_one()
    with copy.target.begin() as connection:
        done: int = connection.execute(select(func.count()).select_from(table)).scalar_one()
        mark = connection.execute(select(store_metadata.c.value).where(store_metadata.c.name == COPYING)).scalar_one()
    identity = json.loads(mark)["source"]
    for rows in _batches(copy.source, table, copy.reached.get(table.name)):
        copy.reached[table.name] = [rows[-1][column.name] for column in table.primary_key]
        with copy.target.begin() as connection:
            connection.execute(table.insert(), rows)
            moved = (
                update(store_metadata)
                .where(store_metadata.c.name == COPYING)
                .values(value=_progress_value(identity, copy.reached))
            )
            connection.execute(moved)
        done += len(rows)
        copy.progress(table.name, done, total)
    return total


def _batches(engine: Engine, table: Table, after: Sequence[Any] | None = None) -> Iterator[list[dict[str, Any]]]:
    """Yield all rows in the order of their keys, without owners."""
    key = tuple_(*table.primary_key)
    while True:
        query = select(table).order_by(*table.primary_key).limit(BATCH)
        with engine.begin() as connection:
            rows = _rows(connection, query if after is None else query.where(key > tuple_(*after)))
        if not rows:
            return
        yield rows
        after = [rows[-1][column.name] for column in table.primary_key]


def _rows(connection: Connection, query: Any) -> list[dict[str, Any]]:
    found = [dict(row) for row in connection.execute(query).mappings()]
    return [row | {"owner": None} if "owner" in row else row for row in found]


def _check(copy: _Copy) -> None:
    """Raise `StoreUnavailable` unless both stores have the same rows, in any order."""
    for table in _TABLES:
        if _digest(copy.source, table) != _digest(copy.target, table):
            raise StoreUnavailable(f"the copy of the table {table.name} differs: empty the target and copy again")


def _digest(engine: Engine, table: Table) -> tuple[int, int]:
    """Return the number of rows, and the sum of their hashes."""
    count = total = 0
    for rows in _batches(engine, table):
        for row in rows:
            hashed = hashlib.sha256(repr(sorted(row.items())).encode()).digest()
            total = (total + int.from_bytes(hashed)) % 2**256
        count += len(rows)
    return count, total


def _progress_value(identity: str, reached: dict[str, list[Any]]) -> bytes:
    return json.dumps({"source": identity, "reached": reached}).encode()
