"""Group commit: callers await their own write; what arrives while one commit is under way becomes the next one.

No write waits for a timer, and a durable commit is paid once for many rows. Writes of one kind go together, because
one statement for fifty rows costs a small part of fifty statements.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from bridge.adapters.store.connections import Work
from bridge.adapters.store.errors import is_retryable, is_transient, unavailable

MAX_BATCH = 256
TRIES = 5  # of a transaction that lost a conflict with another one

Item = TypeVar("Item")
T = TypeVar("T")

WriteAll = Callable[[Connection, Sequence[Item]], Sequence[T | Exception]]
"""Writes all items in the open transaction; gives one result per item, an exception for an item that is refused."""

Transaction = Callable[[Work[Any]], Awaitable[Any]]
"""Does work in a transaction, which is committed when this returns."""


class BatchConflict(Exception):
    """Raised by a `WriteAll` whose items cannot be written together: each is to get a transaction of its own."""


@dataclass(frozen=True, slots=True)
class _Write:
    write_all: WriteAll[Any, Any]
    item: Any
    done: asyncio.Future[Any]


class Batches:
    """The only way to write to the store."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._waiting: list[_Write] = []
        self._committing: asyncio.Task[None] | None = None
        self.failing = False
        """Whether the latest transaction failed because the store was unavailable."""

    async def write(self, write_all: WriteAll[Item, T], item: Item) -> T:
        """Write one item together with whatever else is waiting; returns after the commit.

        Raises what `write_all` gave for this item, or `StoreUnavailable` when the commit failed.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(write_all, item, done))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_all(), name="store-commits")
        return await done

    async def write_one(self, work: Work[T]) -> T:
        """Write a single item in the same commit as whatever else is waiting."""

        def write_all(connection: Connection, _: Sequence[None]) -> list[T]:
            return [work(connection)]

        return await self.write(write_all, None)

    async def drain(self) -> None:
        """Wait until everything that was handed in is committed."""
        while self._committing is not None and not self._committing.done():
            await asyncio.shield(self._committing)

    async def _commit_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            try:
                await self._commit_with_retries(batch)
            except Exception as error:  # noqa: BLE001 - every failure belongs to the callers, none may go unseen
                await self._commit_one_by_one(batch, error)

    async def _commit_with_retries(self, batch: Sequence[_Write]) -> None:
        """Again, as long as only another process's transaction was in the way."""
        for left in reversed(range(TRIES)):
            try:
                return await self._commit(batch)
            except Exception as error:
                if not left or not is_retryable(error):
                    raise
        return None

    async def _commit(self, batch: Sequence[_Write]) -> None:
        """Write all in one transaction; resolve no caller before the commit is durable."""
        kinds = _by_kind(batch)

        def write(connection: Connection) -> list[Sequence[Any]]:
            return [write_all(connection, [one.item for one in writes]) for write_all, writes in kinds]

        answers = await self._transaction(write)
        self.failing = False
        for (_, writes), results in zip(kinds, answers, strict=True):
            for one, result in zip(writes, results, strict=True):
                _answer(one, result)

    async def _commit_one_by_one(self, batch: Sequence[_Write], error: Exception) -> None:
        """A batch failed: one bad row must not take the others with it, so each gets a transaction of its own."""
        self.failing = is_transient(error)
        if len(batch) == 1 or self.failing:
            for write in batch:
                _answer(write, _translated(error))
            return
        for write in batch:
            try:
                await self._commit_with_retries([write])
            except Exception as own_error:  # noqa: BLE001 - as above
                _answer(write, _translated(own_error))


def _by_kind(batch: Sequence[_Write]) -> list[tuple[WriteAll[Any, Any], list[_Write]]]:
    kinds: dict[WriteAll[Any, Any], list[_Write]] = {}
    for write in batch:
        kinds.setdefault(write.write_all, []).append(write)
    return list(kinds.items())


def _answer(write: _Write, result: Any) -> None:
    if write.done.done():  # the caller was cancelled; the write stands
        return
    if isinstance(result, BaseException):
        write.done.set_exception(result)
    else:
        write.done.set_result(result)


def _translated(error: Exception) -> Exception:
    return unavailable(error) if is_transient(error) else error
