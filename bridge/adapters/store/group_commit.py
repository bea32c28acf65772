"""Group commit: callers await their own write; writes that arrive while a commit is in progress form the next batch.

No write waits for a timer, and many rows share one durable commit. Writes of one kind are combined, because one
statement for fifty rows costs a fraction of fifty statements.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection

from bridge.adapters.store.connections import Work
from bridge.adapters.store.errors import is_retryable, is_transient, unavailable
from bridge.core.errors import StoreUnavailable

MAX_BATCH = 256
LOOP_PASSES = 3  # of the event loop before a commit of several writes, so that callers of the last one can join it
TRIES = 5  # of a transaction that conflicts with others
RETRY_INTERVAL = 1.0  # seconds between attempts of a write that must not be lost

log = structlog.get_logger()

Item = TypeVar("Item")
T = TypeVar("T")

WriteAll = Callable[[Connection, Sequence[Item]], Sequence[T | Exception]]
"""Writes all items in the open transaction; returns one result per item, an exception for an item that is refused."""

Transaction = Callable[[Work[Any]], Awaitable[Any]]
"""Runs work in a transaction, committed on return."""


class WriteUnconfirmed(StoreUnavailable):
    """A write failed, perhaps only after its commit. `result`: what it returned before that, None if it did not."""

    def __init__(self, reason: str, result: Any) -> None:
        super().__init__(reason)
        self.result = result


class BatchConflict(Exception):
    """Raised by a `WriteAll` whose items cannot be written together; each is then written in a separate transaction."""


@dataclass(slots=True)
class _Write:
    write_all: WriteAll[Any, Any]
    item: Any
    done: asyncio.Future[Any]
    result: Any = None  # before the commit


class Batches:
    """Commits all writes to the store; `committed` is called with the seconds that each transaction took."""

    def __init__(self, transaction: Transaction, committed: Callable[[float], None] = lambda _seconds: None) -> None:
        self._transaction = transaction
        self._committed = committed
        self._waiting: list[_Write] = []
        self._committing: asyncio.Task[None] | None = None
        self.failing = False
        """Whether the last transaction failed because the store was unavailable."""

    async def write(self, write_all: WriteAll[Item, T], item: Item) -> T:
        """Write one item together with all others that are waiting; return after the commit.

        Raises what `write_all` returned for this item, or `WriteUnconfirmed` if the commit failed.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Write(write_all, item, done))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_all(), name="store-commits")
        return await done

    async def write_one(self, work: Work[T]) -> T:
        """Run `work` in the same commit as all writes that are waiting."""

        def write_all(connection: Connection, _: Sequence[None]) -> list[T]:
            return [work(connection)]

        return await self.write(write_all, None)

    async def drain(self) -> None:
        """Wait until all writes are committed."""
        while self._committing is not None and not self._committing.done():
            await asyncio.shield(self._committing)

    async def _commit_all(self) -> None:
        while self._waiting:
            for _ in range(LOOP_PASSES if len(self._waiting) > 1 else 0):
                await asyncio.sleep(0)
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            try:
                await self._commit_with_retries(batch)
            except Exception as error:  # noqa: BLE001 - raised to the callers
                await self._commit_one_by_one(batch, error)

    async def _commit_with_retries(self, batch: Sequence[_Write]) -> None:
        """Commit; retry after a conflict with a transaction of another process."""
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

        def write(connection: Connection) -> None:
            for write_all, writes in kinds:
                for one, result in zip(writes, write_all(connection, [one.item for one in writes]), strict=True):
                    one.result = result

        started = time.monotonic()
        await self._transaction(write)
        seconds = time.monotonic() - started
        self.failing = False
        for one in batch:
            resolve(one.done, one.result)
        self._committed(seconds)

    async def _commit_one_by_one(self, batch: Sequence[_Write], error: Exception) -> None:
        """Commit the writes of a failed batch separately, so that one invalid row does not affect the others."""
        self.failing = is_transient(error)
        if len(batch) == 1 or self.failing:
            for write in batch:
                resolve(write.done, _translated(error, write.result))
            return
        for write in batch:
            try:
                await self._commit_with_retries([write])
            except Exception as own_error:  # noqa: BLE001 - as above
                resolve(write.done, _translated(own_error, write.result))


async def until_available(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat the call until the store is available, because no caller could handle the failure."""
    while True:
        try:
            return await call()
        except StoreUnavailable as error:
            await wait_for_store(error)


async def wait_for_store(error: StoreUnavailable) -> None:
    """Log the outage, and wait before the next attempt."""
    log.warning("store_unavailable", reason=str(error), retry_in_s=RETRY_INTERVAL)
    await asyncio.sleep(RETRY_INTERVAL)


def _by_kind(batch: Sequence[_Write]) -> list[tuple[WriteAll[Any, Any], list[_Write]]]:
    kinds: dict[WriteAll[Any, Any], list[_Write]] = {}
    for write in batch:
        kinds.setdefault(write.write_all, []).append(write)
    return list(kinds.items())


def resolve(future: asyncio.Future[T], result: T | Exception) -> None:
    """Give the caller its result, or raise the exception there, unless it was cancelled meanwhile."""
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


def _translated(error: Exception, result: Any) -> Exception:
    return WriteUnconfirmed(str(unavailable(error)), result) if is_transient(error) else error
