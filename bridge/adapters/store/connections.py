"""Connections and the threads on which their drivers block: a whole transaction is one hop away from the event loop.

The library's asynchronous engines hop for every statement, which costs three times what the statements cost.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from sqlalchemy import Connection, Engine

T = TypeVar("T")

Work = Callable[[Connection], T]
"""What is done in one transaction; it blocks, and touches nothing that the event loop may change meanwhile."""


def _started_threads(number: int) -> ThreadPoolExecutor:
    """All threads up front: one that cannot start ends the start of the process, and never fails a request."""
    threads = ThreadPoolExecutor(number, thread_name_prefix="store")
    all_there = Barrier(number + 1)
    for _ in range(number):
        threads.submit(all_there.wait)
    all_there.wait()
    return threads


class Connections:
    """So many connections to one database, and as many threads, so that no thread waits for a connection."""

    def __init__(self, engine: Engine, number: int, verify: Callable[[], None] | None = None) -> None:
        """`verify` raises if what was written in a transaction cannot be relied on."""
        self.engine = engine
        self._verify = verify
        self._threads = _started_threads(number)

    async def run(self, work: Work[T]) -> T:
        """Do it in a transaction of its own, committed when this returns; cancelling the caller does not stop it.

        Raises what `work` raises, after rolling back, and the library's errors.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._in_transaction, work)

    async def close(self) -> None:
        """Let what was begun come to its end, and disconnect."""
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()

    def _in_transaction(self, work: Work[T]) -> T:
        if self._verify is None:
            with self.engine.begin() as connection:
                return work(connection)
        self._verify()
        with self.engine.begin() as connection:
            result = work(connection)
        self._verify()  # after the commit: only now nothing can happen that would undo what is confirmed
        return result
