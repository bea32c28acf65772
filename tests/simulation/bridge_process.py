"""One process of a simulated bridge: the real store, steps, workers, and supervisor, from start to end."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from bridge.adapters.clock import SteadyClock
from bridge.adapters.kickoff_journal import open_journal
from bridge.adapters.store import SqlStore, open_store
from bridge.composition.steps import build_deliverers, build_workers
from bridge.core.crew.fair_share import FairShare
from bridge.core.crew.rate_limiter import RateLimiter
from bridge.core.crew.webhooks import Kind
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs.commands import RunCommand
from bridge.core.runs.model import Envelope, KickoffRequest, Run
from bridge.ports.inbound import Accepted
from bridge.ports.metrics import StoreMetrics
from bridge.steps.recovery.journal import replay_journal
from bridge.supervisor import Supervisor
from tests.component.steps.conftest import Bench
from tests.fakes import Ids
from tests.simulation.process_tasks import Process
from tests.simulation.stores import ShakyStore, SimulatedDatabase, database_time
from tests.simulation.world import World

CALLS_PER_SECOND = 20.0  # few enough that kickoffs and polls wait for permits

T = TypeVar("T")


class Crash(BaseException):
    """The process has died."""


@dataclass(frozen=True)
class Environment:
    """Shared by the processes of one history; `shared`: several of them run at the same time."""

    world: World
    file: Path
    policy: CrewPolicy
    ids: Ids
    slots: int
    shared: bool


class BridgeProcess:
    """`wall` is the clock of the process. Use with `alive`, in the context of its `os_process`."""

    def __init__(self, environment: Environment, name: str, wall: Callable[[], float]) -> None:
        self.os_process = Process()
        self._environment = environment
        self._given_name = name
        self._wall = wall
        self._store: SqlStore | None = None
        self._bench: Bench | None = None
        self._supervisor: Supervisor | None = None
        self._journal: Any = None
        self._asked: set[asyncio.Task[Any]] = set()

    @property
    def name(self) -> str:
        """The name of this process in the store; it differs from the given one after an expiry."""
        return self._given_name if self._store is None else self._store.ownership.process

    @asynccontextmanager
    async def alive(self) -> AsyncIterator["BridgeProcess"]:
        """Open the store and start everything; ends with the block, by `Crash`, or by an orderly stop."""
        clock = SteadyClock(self._wall, asyncio.get_running_loop().time)
        env = self._environment
        base = SimulatedDatabase(f"sqlite:///{env.file}", env.world, shared=env.shared)
        now = database_time() if env.shared else clock()
        metrics = StoreMetrics(stale_write=self._on_stale)
        opened = open_store(base, self._given_name, now, migrate=False, metrics=metrics, crews=("research",))
        async with opened as store, self._opened_journal() as journal:
            base.shaky = True
            await self._start(store, journal, clock)
            try:
                yield self
            except Crash:
                await self._drop_dead()
                raise
            finally:
                self._bench = None
            assert self._supervisor is not None
            await self._supervisor.stop(asyncio.Event())
            if self._asked:
                await asyncio.wait(self._asked)  # as a server does before the store closes

    async def run_for(self, seconds: float) -> None:
        """Run for this many seconds; raise the error of a part at once."""
        assert self._supervisor is not None
        until = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(seconds, until.set)
        await self._supervisor.wait(until)
        timer.cancel()
        self._environment.world.raise_bug()
        if not until.is_set():
            await self._supervisor.stop(asyncio.Event())

    async def call(self, question: Callable[[Bench], Awaitable[T]]) -> T | None:
        """A call from outside; None if the process dies during it, or is not running."""
        if self._bench is None:
            return None
        work, loop = _within(question(self._bench)), asyncio.get_running_loop()
        task: asyncio.Task[T] = loop.create_task(work, context=self.os_process.context())
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    async def accept(self, request: KickoffRequest, envelope: Envelope) -> Accepted | None:
        return await self.call(lambda bench: bench.accept(request, envelope))

    async def apply_command(self, run_id: str, command: RunCommand) -> Run | None:
        return await self.call(lambda bench: bench.apply_command(run_id, command, "an operator"))

    async def webhook(self, token: str, kind: Kind, body: dict[str, Any]) -> None:
        async def read() -> dict[str, Any]:
            return body

        await self.call(lambda bench: bench.receive.crew_webhook(token, kind, read))

    def _on_stale(self) -> None:
        self._environment.world.seen["stale write"] += 1

    def _opened_journal(self) -> AbstractAsyncContextManager[Any]:
        """A shared database is not a file, so it has no folder for a journal."""
        return open_journal("postgresql:" if self._environment.shared else f"sqlite:///{self._environment.file}")

    async def _start(self, store: SqlStore, journal: Any, clock: Any) -> None:
        env = self._environment
        world: Any = env.world
        bench = Bench(
            ShakyStore(store, world, shared=store.shared), env.policy, env.slots, clock, env.ids, world, world,
            share=FairShare(slack=0), journal=journal,
        )  # fmt: skip
        bench.crews["research"] = replace(bench.crew, rate_limiter=RateLimiter(CALLS_PER_SECOND))
        await replay_journal(journal, bench.crews, store, clock, world.report)
        self._store = store
        self._bench = bench
        self._journal = journal
        deliverers = build_deliverers(bench.steps, world, world, world.report)
        self._supervisor = Supervisor([build_workers(bench.steps, world.report), deliverers])
        self._supervisor.start()

    async def _drop_dead(self) -> None:
        """Cut off everything in progress; an open transaction is rolled back."""
        while left := self._under_way():
            for task in left:  # repeatedly: `wait_for` drops the cancellation if its result arrived at the same moment
                task.cancel()
            await asyncio.wait(left, timeout=0.0)
        with closing(sqlite3.connect(self._environment.file)) as reader:
            query = "SELECT run_id FROM runs WHERE state = 'starting' AND owner = ?"
            starting = {row[0] for row in reader.execute(query, [self.name])}
        noted = {append.run_id for append in self._journal.entries()}
        self._environment.world.seen["id saved by the journal"] += len(starting & noted)
        self._environment.world.doubtful |= starting - noted

    def _under_way(self) -> list[asyncio.Task[Any]]:
        return [task for task in self.os_process.tasks if not task.done() and task is not asyncio.current_task()]


async def _within(answer: Awaitable[T]) -> T:
    return await answer
