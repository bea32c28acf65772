"""Copying a store into another one that nobody uses meanwhile: in batches, resumable, checked by counts and hashes."""

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, delete, func, select, tuple_, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bridge.adapters.store import dialect
from bridge.adapters.store.engine import COPYING, Database, database, opened, prepare
from bridge.adapters.store.tables import keys, metadata, processes
from bridge.adapters.store.weather import words
from bridge.core.errors import StoreInUse, StoreUnavailable

BATCH = 500  # rows
HEARD_LATELY = 30.0  # seconds; a process that was heard within them lives

_TABLES = [table for table in metadata.sorted_tables if table not in (keys, processes)]
"""Everything but the keys, which come first, and the processes, which are none."""

Progress = Callable[[str, int, int], None]
"""A table's name, the rows of it that are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """One copy under way; `reached`: the last key of each table that is in the target."""

    source: AsyncEngine
    target: AsyncEngine
    reached: dict[str, list[Any]]
    progress: Progress


async def copy_store(source_url: str, target_url: str, progress: Progress) -> dict[str, int]:
    """Copy everything; gives back the number of rows of each table.

    Called again after it was interrupted it goes on where it was. Raises `StoreInUse` while a bridge uses either, and
    `StoreUnavailable` if the source does not exist, the target holds something else, or the two differ at the end.
    """
    source, target = database(source_url), database(target_url)
    if source.absent() is not None:
        raise StoreUnavailable("the store to copy from does not exist")
    try:
        async with AsyncExitStack() as stack:
            from_engine = await _alone(stack, source, migrate=False)
            to_engine = await _alone(stack, target, migrate=True)
            copy = _Copy(from_engine, to_engine, await _begin(from_engine, to_engine), progress)
            counts = {table.name: await _copy_table(copy, table) for table in _TABLES}
            await _check(copy)
            async with to_engine.begin() as connection:
                await connection.execute(delete(keys).where(keys.c.name == COPYING))
            return counts
    except DBAPIError as error:
        raise StoreUnavailable(f"the copy was interrupted, run it again: {words(error)}") from None


async def _alone(stack: AsyncExitStack, base: Database, *, migrate: bool) -> AsyncEngine:
    """An engine on a database that no bridge uses."""
    stack.enter_context(base.held())
    engine = await stack.enter_async_context(opened(base.writer()))
    await prepare(base, engine, migrate=migrate)
    async with engine.begin() as connection:
        lately = processes.c.beat_at >= dialect.clock(connection, 0.0) - HEARD_LATELY
        if base.shared and (await connection.execute(select(processes.c.name).where(lately))).first():
            raise StoreInUse("a bridge uses the store: stop it first")
    return engine


async def _begin(source: AsyncEngine, target: AsyncEngine) -> dict[str, list[Any]]:
    """Mark the target as a copy of this source, or find how far an earlier try came."""
    async with source.begin() as connection:
        found = {row.name: row.value for row in await connection.execute(select(keys))}
    if COPYING in found:
        raise StoreUnavailable("the store to copy from is an unfinished copy itself")
    identity = hashlib.sha256(found.get("amp", b"")).hexdigest()
    async with target.begin() as connection:
        there = {row.name: row.value for row in await connection.execute(select(keys))}
        if COPYING in there:
            mark = json.loads(there[COPYING])
            if mark["source"] != identity:
                raise StoreUnavailable("the store to copy to is an unfinished copy of another store")
            reached: dict[str, list[Any]] = mark["reached"]
            return reached
        for table in _TABLES:
            if (await connection.execute(select(*table.primary_key).limit(1))).first():
                raise StoreUnavailable("the store to copy to is not empty")
        await connection.execute(delete(keys))
        rows = [{"name": name, "value": value} for name, value in found.items()]
        await connection.execute(keys.insert(), [*rows, {"name": COPYING, "value": _mark(identity, {})}])
    return {}


async def _copy_table(copy: _Copy, table: Table) -> int:
    async with copy.source.begin() as connection:
        total: int = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
    async with copy.target.begin() as connection:
        done: int = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
        mark = (await connection.execute(select(keys.c.value).where(keys.c.name == COPYING))).scalar_one()
    identity = json.loads(mark)["source"]
    async for rows in _batches(copy.source, table, copy.reached.get(table.name)):
        copy.reached[table.name] = [rows[-1][column.name] for column in table.primary_key]
        async with copy.target.begin() as connection:
            await connection.execute(table.insert(), rows)
            moved = update(keys).where(keys.c.name == COPYING).values(value=_mark(identity, copy.reached))
            await connection.execute(moved)
        done += len(rows)
        copy.progress(table.name, done, total)
    return total


async def _batches(
    engine: AsyncEngine, table: Table, after: Sequence[Any] | None = None
) -> AsyncIterator[list[dict[str, Any]]]:
    """All rows in the order of their keys; nobody owns any of them."""
    key = tuple_(*table.primary_key)
    while True:
        query = select(table).order_by(*table.primary_key).limit(BATCH)
        async with engine.begin() as connection:
            rows = await _rows(connection, query if after is None else query.where(key > tuple_(*after)))
        if not rows:
            return
        yield rows
        after = [rows[-1][column.name] for column in table.primary_key]


async def _rows(connection: AsyncConnection, query: Any) -> list[dict[str, Any]]:
    found = [dict(row) for row in (await connection.execute(query)).mappings()]
    return [row | {"owner": None} if "owner" in row else row for row in found]


async def _check(copy: _Copy) -> None:
    """The same number of rows with the same content in both, whatever order each keeps them in."""
    for table in _TABLES:
        if await _digest(copy.source, table) != await _digest(copy.target, table):
            raise StoreUnavailable(f"the copy of the table {table.name} differs: empty the target and copy again")


async def _digest(engine: AsyncEngine, table: Table) -> tuple[int, int]:
    """The number of rows, and the sum of their hashes."""
    count = total = 0
    async for rows in _batches(engine, table):
        for row in rows:
            hashed = hashlib.sha256(repr(sorted(row.items())).encode()).digest()
            total = (total + int.from_bytes(hashed)) % 2**256
        count += len(rows)
    return count, total


def _mark(identity: str, reached: dict[str, list[Any]]) -> bytes:
    return json.dumps({"source": identity, "reached": reached}).encode()
