"""The store of a simulated process, alone or shared, and its faults."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.exc import OperationalError

from bridge.adapters.store import SqlStore
from bridge.adapters.store.connections import Work
from bridge.adapters.store.database import database, open_connections
from bridge.core.errors import StoreUnavailable
from bridge.core.runs.model import Run
from tests.component.steps.conftest import KEY
from tests.fakes import NOW
from tests.simulation.world import World

ROLES = {"cluster", "commands", "inbox", "queries", "run_times"}
"""Parts of a store."""
OF_SEVERAL = ("expire_processes", "rejoin", "release_runs")
"""Calls that are counted if they had a result."""


def database_time() -> float:
    """The time of the machine of a shared database, whatever the clocks of the processes show."""
    return NOW + asyncio.get_running_loop().time()


@asynccontextmanager
async def one_of_several(url: str, name: str, on_stale: Callable[[], None]) -> AsyncIterator[SqlStore]:
    """`open_store` for SQLite as if it were shared: in virtual time no two transactions are ever open together."""
    base = database(url)
    async with open_connections(base.writer()) as writer, open_connections(base.readers()) as reader:
        store = SqlStore(reader, writer.run, name, KEY, on_stale, shared=True, crews=("research",))
        await store.cluster.join(database_time())
        yield store
        await store.close()


class ShakyStore:
    """The real store or one of its parts, but reads fail sometimes, and no call has an effect once its process ended.

    A shared one measures heartbeats by its own clock, as PostgreSQL does.
    """

    def __init__(self, store: Any, world: World, *, shared: bool) -> None:
        self._store = store
        self._world = world
        self.shared = shared

    def owned_elsewhere(self, run: Run) -> bool:
        return bool(self._store.owned_elsewhere(run))

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name in ROLES:
            return ShakyStore(method, self._world, shared=self.shared)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if name == "load" and self._world.happens("read failed", 0.02):
                raise StoreUnavailable("disk I/O is slow")
            if name in {"heartbeat", "expire_processes", "rejoin"} and self.shared:
                args = (database_time(), *args[1:])
            result = await method(*args, **kwargs)
            if name in OF_SEVERAL:
                self._world.seen[name] += bool(result)
            await asyncio.sleep(0)  # a point to die at, after the commit and before the step knows
            return result

        return call


def make_writes_fail(store: SqlStore, world: World) -> None:
    """Sometimes a transaction cannot begin, as with a full disk, or is committed without a confirmation."""
    transaction = store._batches._transaction
    full_until = 0.0

    async def shaky(work: Work[Any]) -> Any:
        nonlocal full_until
        now = asyncio.get_running_loop().time()
        if world.happens("disk full", 0.003):
            full_until = now + 5.0
        if (now < full_until and not world.calm) or world.happens("write refused", 0.03):
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))
        result = await transaction(work)
        if world.happens("confirmation lost", 0.01):
            raise OperationalError("COMMIT", {}, OSError("the connection was cut"))
        return result

    store._batches._transaction = shaky
