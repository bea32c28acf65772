"""Runs whole transactions of blocking drivers in threads.

SQLAlchemy's asynchronous engines switch threads for every statement, which costs three times as much as the statements.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from bridge.adapters.store.errors import is_transient, unavailable
from bridge.adapters.threads import start_threads

T = TypeVar("T")

Work = Callable[[Connection], T]
"""The body of a transaction. It runs in a thread, so it must not use what the event loop may change concurrently."""


class Connections:
    """Connections to one database, and as many threads, so that no thread waits for a connection."""

    def __init__(self, engine: Engine, number: int, verify: Callable[[], None] | None = None) -> None:
        """`verify` raises an error if the files of the database are no longer the ones that were opened."""
        self.engine = engine
        self._verify = verify
        self._threads = start_threads(number, "store")

    async def run(self, work: Work[T]) -> T:
        """Run `work` in a transaction, committed on return; canceling the caller does not stop it.

        Raises what `work` raises, after a rollback, and SQLAlchemy's errors.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._in_transaction, work)

    async def read(self, work: Work[T]) -> T:
        """Run `work` like `run`, but raise `StoreUnavailable` during an outage."""
        try:
            return await self.run(work)
        except SQLAlchemyError as error:
            if is_transient(error):
                raise unavailable(error) from None
            raise

    async def close(self) -> None:
        """Wait for transactions in progress, then disconnect."""
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()

    def _in_transaction(self, work: Work[T]) -> T:
        if self._verify is None:
            with self.engine.begin() as connection:
                return work(connection)
        self._verify()
        with self.engine.begin() as connection:
            result = work(connection)
        self._verify()  # after the commit, so that a replaced file is detected before the caller relies on the write
        return result
