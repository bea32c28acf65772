"""The store of a simulated process, alone or shared, and its faults."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from sqlalchemy.exc import OperationalError

from bridge.adapters.store.connections import Connections, Work
from bridge.adapters.store.sqlite import Sqlite
from bridge.core.errors import StoreUnavailable
from bridge.core.runs.model import Run
from tests.fakes import NOW
from tests.simulation.world import World

ROLES = {"cluster", "commands", "deliveries", "inbox", "queries", "run_times"}
"""Parts of a store."""

T = TypeVar("T")

OF_SEVERAL = ("expire_processes", "rejoin", "release_runs")
"""Calls that are counted if they had a result."""


def database_time() -> float:
    """The time of the machine of a shared database, whatever the clocks of the processes show."""
    return NOW + asyncio.get_running_loop().time()


class SimulatedDatabase(Sqlite):
    """SQLite, `shared` as PostgreSQL is: in virtual time, no two transactions are ever open together.

    Once `shaky`, a transaction sometimes cannot begin, as with a full disk, or is committed without a confirmation.
    """

    def __init__(self, url: str, world: World, *, shared: bool) -> None:
        super().__init__(url)
        self.shared = shared
        self.shaky = False
        self._world = world

    @contextmanager
    def locked(self) -> Iterator[None]:
        with nullcontext() if self.shared else super().locked():
            yield

    def watch_files(self) -> None:
        if not self.shared:
            super().watch_files()

    def writer(self) -> Connections:
        return ShakyConnections(super().writer(), self, self._world)


class ShakyConnections(Connections):
    def __init__(self, writer: Connections, base: SimulatedDatabase, world: World) -> None:
        self.engine = writer.engine
        self._writer = writer
        self._base = base
        self._world = world
        self._full_until = 0.0

    async def run(self, work: Work[T]) -> T:
        if not self._base.shaky:
            return await self._writer.run(work)
        now, world = asyncio.get_running_loop().time(), self._world
        if world.happens("disk full", 0.003):
            self._full_until = now + 5.0
        if (now < self._full_until and not world.calm) or world.happens("write refused", 0.03):
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))
        result = await self._writer.run(work)
        if world.happens("confirmation lost", 0.01):
            raise OperationalError("COMMIT", {}, OSError("the connection was cut"))
        return result

    async def close(self) -> None:
        await self._writer.close()


class ShakyStore:
    """The real store or one of its parts, but reads fail sometimes, and no call has an effect once its process ended.

    A shared one measures heartbeats by its own clock, as PostgreSQL does.
    """

    def __init__(self, store: Any, world: World, *, shared: bool) -> None:
        self._store = store
        self._world = world
        self.shared = shared

    @property
    def key(self) -> bytes:
        return bytes(self._store.key)

    def owned_elsewhere(self, run: Run) -> bool:
        return bool(self._store.owned_elsewhere(run))

    def short_of_slots(self, crew: str) -> bool:
        return bool(self._store.short_of_slots(crew))

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
