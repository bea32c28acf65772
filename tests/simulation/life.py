"""One process of a simulated bridge: the real store, steps, workers and supervisor, from its start to its end."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy.exc import OperationalError

from bridge.adapters.clock import SteadyClock
from bridge.adapters.side_journal import open_journal
from bridge.adapters.store import SqlStore, open_store
from bridge.adapters.store.threads import Work
from bridge.core.errors import StoreUnavailable
from bridge.core.hints import Kind
from bridge.core.model import CrewPolicy, Envelope, KickoffRequest, Run
from bridge.core.steering import Steering
from bridge.ports import Accepted, Service
from bridge.steps.replay import replay
from bridge.supervisor import Supervisor
from bridge.worker import Worker
from tests.fakes import Ids
from tests.simulation.world import World
from tests.steps.conftest import Bench

T = TypeVar("T")

PLACES = 4
PLACES_HELD = """
    SELECT count(*) FROM runs WHERE state IN ('starting', 'running', 'waiting_for_human')
    AND run_id NOT IN (SELECT run_id FROM events WHERE type = 'run.in_doubt')
"""
"""Without those whose evidence came when they had given their place away, as `run.in_doubt` had told."""


class Crash(BaseException):
    """The process is gone."""


class Bell:
    """A worker's wake, with the signature of any wake."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()

    def __call__(self, _crew: str = "") -> None:
        self.rung.set()


class ShakyStore:
    """The real store, but reads fail now and then, and nothing that this process asks for happens after its end."""

    def __init__(self, store: SqlStore, life: "Life") -> None:
        self._store = store
        self._life = life

    def owned_elsewhere(self, run: Run) -> bool:
        return self._store.owned_elsewhere(run)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if name == "load" and self._life.world.happens("read failed", 0.02):
                raise StoreUnavailable("disk I/O is slow")
            result = await method(*args, **kwargs)
            await asyncio.sleep(0)  # a place to die at, after the commit and before the step knows
            return result

        return call


class Life:
    """`wall` is the process's clock. Use with `alive`."""

    def __init__(self, world: World, file: Path, name: str, policy: CrewPolicy, wall: Callable[[], float], ids: Ids):
        self.world = world
        self._file = file
        self._name = name
        self._policy = policy
        self._wall = wall
        self._ids = ids
        self._bench: Bench | None = None
        self._supervisor: Supervisor | None = None
        self._full_until = 0.0
        self._journal: Any = None
        self._asked: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def alive(self) -> AsyncIterator["Life"]:
        """Open the store and start everything; ends as the block ends, by `Crash` or by a stop in order."""
        url = f"sqlite:///{self._file}"
        clock = SteadyClock(self._wall, asyncio.get_running_loop().time)
        async with open_store(url, self._name, clock(), migrate=False) as store, open_journal(url) as journal:
            self._make_writes_fail(store)
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
                await asyncio.wait(self._asked)  # as a door does: what was asked is answered before the store closes

    async def last(self, seconds: float) -> None:
        """Live so long; raises at once what a part dies of."""
        assert self._supervisor is not None
        until = asyncio.Event()
        timer = asyncio.get_running_loop().call_later(seconds, until.set)
        await self._supervisor.wait(until)
        timer.cancel()
        if not until.is_set():
            await self._supervisor.stop(asyncio.Event())

    async def ask(self, question: Callable[[Bench], Awaitable[T]]) -> T | None:
        """A call from outside; None if the process dies over it, or does not live at all."""
        if self._bench is None:
            return None
        task: asyncio.Task[T] = asyncio.get_running_loop().create_task(_within(question(self._bench)))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    async def accept(self, request: KickoffRequest, envelope: Envelope) -> Accepted | None:
        return await self.ask(lambda bench: bench.accept(request, envelope))

    async def steer(self, run_id: str, wish: Steering) -> Run | None:
        return await self.ask(lambda bench: bench.steer(run_id, wish, "an operator"))

    async def hint(self, token: str, kind: Kind, body: dict[str, Any]) -> None:
        async def read() -> dict[str, Any]:
            return body

        await self.ask(lambda bench: bench.hint(token, kind, read))

    async def _start(self, store: SqlStore, journal: Any, clock: Any) -> None:
        api: Any = self.world
        bells = {name: Bell() for name in ("kickoff", "poll", "deliver", "recover", "resume")}
        wakes: Any = bells
        bench = Bench(ShakyStore(store, self), self._policy, PLACES, clock, self._ids, api, api, wakes, journal=journal)
        await replay(journal, bench.crews, store, clock)
        steps: list[Service] = [
            Worker(bench.kickoff, 3, bells["kickoff"].rung),
            Worker(bench.poll, 8, bells["poll"].rung),
            *(Worker(step, 5, asyncio.Event()) for step in (bench.probe, bench.doubt, bench.late, bench.sweep)),
            Worker(bench.recover, 50, bells["recover"].rung),
            Worker(bench.resume, 5, bells["resume"].rung),
        ]
        self._bench = bench
        self._journal = journal
        self._supervisor = Supervisor([steps, [Worker(bench.deliver, 10, bells["deliver"].rung)]])
        self._supervisor.start()

    def _make_writes_fail(self, store: SqlStore) -> None:
        """Now and then a transaction cannot begin, as with a full disk."""
        transaction = store._batches._transaction

        async def shaky(work: Work[Any]) -> Any:
            if self.world.happens("disk full", 0.003):
                self._full_until = asyncio.get_running_loop().time() + 5.0
            full = asyncio.get_running_loop().time() < self._full_until and not self.world.calm
            if full or self.world.happens("write refused", 0.03):
                raise OperationalError("COMMIT", {}, sqlite3.OperationalError("database or disk is full"))
            return await transaction(work)

        store._batches._transaction = shaky

    async def _drop_dead(self) -> None:
        """Whatever was under way is cut off where it stands; a transaction that was open is rolled back."""
        mine = asyncio.all_tasks() - self.world.tasks - {asyncio.current_task()}
        for task in mine:
            task.cancel()
        while left := asyncio.all_tasks() - self.world.tasks - {asyncio.current_task()}:
            await asyncio.wait(left)
        with closing(sqlite3.connect(self._file)) as reader:
            starting = {row[0] for row in reader.execute("SELECT run_id FROM runs WHERE state = 'starting'")}
        noted = {note.run_id for note in self._journal.notes()}
        self.world.seen["id saved by the journal"] += len(starting & noted)
        self.world.doubtful |= starting - noted


async def _within(answer: Awaitable[T]) -> T:
    return await answer
