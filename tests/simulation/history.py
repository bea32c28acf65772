"""A complete history from one seed: producers, operators, and processes that die; then calm, and the checks."""

import asyncio
import random
import sqlite3
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge.core.crew_policy import CrewPolicy, DoubtPolicy
from bridge.core.errors import PostInProgress, RequestRefused, StoreUnavailable
from bridge.core.human_input.feedback import Resume
from bridge.core.runs.commands import Abandon, Cancel, Retry, RunCommand
from bridge.core.runs.model import Envelope, Run
from bridge.ports.inbound import Accepted
from tests.component.steps.conftest import POLICY
from tests.fakes import NOW, Ids, a_request
from tests.simulation.bridge_process import BridgeProcess, Crash, Environment
from tests.simulation.questions import DEFAULT
from tests.simulation.virtual_time import run_virtually
from tests.simulation.world import World

REQUESTS = 6
LIVES = 3
PLACES = 4
CALM_LIMIT = 1800.0
LONG = 200.0
"""A deadline that only an execution that waits forever exceeds."""
REFUSALS = (StoreUnavailable, RequestRefused, PostInProgress)
PLACES_HELD = """
    SELECT count(*) FROM runs WHERE state IN ('starting', 'running', 'waiting_for_human')
    AND run_id NOT IN (SELECT run_id FROM events WHERE type = 'run.in_doubt')
"""
"""Without those whose evidence came after they had left their slot, as reported by `run.in_doubt`."""
OWNERS = """
    SELECT owner FROM runs WHERE owner IS NOT NULL UNION SELECT owner FROM deliveries WHERE owner IS NOT NULL
"""
NOTE_WHAT_IS_GIVEN_UP = """
    CREATE TABLE given_up (run_id TEXT);
    CREATE TRIGGER starts_given_up AFTER UPDATE OF owner ON runs
    WHEN OLD.owner IS NOT NULL AND NEW.owner IS NULL AND OLD.state = 'starting' AND NEW.state = 'starting'
    BEGIN INSERT INTO given_up VALUES (OLD.run_id); END;
"""
"""Runs with a POST in flight when their process was declared dead; only the store sees all of them."""
UNSETTLED = """
    SELECT (SELECT count(*) FROM runs WHERE finished_at IS NULL AND (state != 'in_doubt' OR due_at IS NOT NULL))
         + (SELECT count(*) FROM deliveries WHERE state = 'pending')
"""


@dataclass
class History:
    """One history from a seed, with this many concurrent bridges; `play` runs it to the end."""

    seed: int
    file: Path
    bridges: int = 1
    slots: int = PLACES
    rng: random.Random = field(init=False)
    world: World = field(init=False)
    environment: Environment = field(init=False)
    processes: list[BridgeProcess] = field(default_factory=list)
    """The running ones."""
    clock_is_off_by: float = 0.0
    responses: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Key → the run ids that producers received."""
    retried: set[str] = field(default_factory=set)
    ended_in_order: int = 0
    crashed: int = 0
    lasted: int = 0
    """Virtual seconds."""
    troubled: int = field(init=False)
    """Replicas whose last process has not started yet, or has not read the membership yet."""
    most_places: int = 0
    unverified: set[str] = field(default_factory=set)
    """Owners of rows that the store did not know as processes."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.troubled = self.bridges
        self.world = World(self.rng, webhook=self._webhook, tracked=self.check_store)
        policies = [DoubtPolicy.HOLD] * 60 + [DoubtPolicy.FAIL] * 30 + [DoubtPolicy.RETRY]  # which takes ten minutes
        self.policy: CrewPolicy = replace(
            POLICY,
            in_doubt=self.rng.choice(policies),
            in_doubt_after=self.rng.choice([2.0, 6.0]),
            deadline=self.rng.choice([4.0, LONG]),
            optional_events=self.rng.choice([frozenset(), frozenset({"started", "progress"})]),
            human_input=self.rng.random() < 0.5,
            questions_announced=self.rng.random() < 0.5,
            human_deadline=self.rng.choice([None, 8.0]),
            human_default=self.rng.choice([None, DEFAULT]),
        )
        if self.policy.human_input:
            self.world.answer = self._answer
            self.world.patience = self.policy.human_deadline
        self.environment = Environment(self.world, self.file, self.policy, Ids(), self.slots, shared=self.several)
        if self.several:
            with closing(sqlite3.connect(self.file)) as writer:
                writer.executescript(NOTE_WHAT_IS_GIVEN_UP)

    @property
    def several(self) -> bool:
        return self.bridges > 1

    @property
    def requests(self) -> int:
        return REQUESTS + 3 * (self.bridges - 1)

    @property
    def _span(self) -> float:
        """The number of seconds with external input; with several bridges it is long enough for expiries."""
        return 15.0 if self.several else 3.0

    def count(self, query: str) -> int:
        with closing(sqlite3.connect(self.file)) as reader:
            number: int = reader.execute(query).fetchone()[0]
            return number

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.file)) as reader:
            return reader.execute(query).fetchall()

    def members(self) -> set[str]:
        """The processes that the store knows."""
        return {row[0] for row in self.rows("SELECT name FROM processes")}

    def owners(self) -> set[str]:
        """The processes that rows belong to."""
        return {row[0] for row in self.rows(OWNERS)}

    def check_store(self) -> None:
        """Record what must hold at any time."""
        self.most_places = max(self.most_places, self.count(PLACES_HELD))
        self.unverified |= self.owners() - self.members()

    def play(self) -> None:
        """From the first request until everything has ended."""
        run_virtually(self._play())

    async def live(self, name: str, work: Callable[[BridgeProcess], Awaitable[None]]) -> None:
        """One process, from start to end."""
        process = BridgeProcess(self.environment, name, self._wall)

        async def inside() -> None:
            with suppress(Crash):
                async with process.alive():
                    self.processes.append(process)
                    try:
                        await work(process)
                    finally:
                        self.processes.remove(process)

        await asyncio.get_running_loop().create_task(inside(), context=process.os_process.context())

    async def produce(self, key: str) -> None:
        """A producer repeats its request until it has a response, as the contract says; some send it twice."""
        request = a_request(idempotency_key=key)
        while not (answer := await self._ask_for(request)):  # noqa: ASYNC110 - a producer knows nothing of our events
            await asyncio.sleep(0.5)
        self.responses[key].add(answer.run.run_id)

    async def _play(self) -> None:
        for number in range(self.requests):
            self.world.spawn(self._produce_at_some_time(f"order-{number}"))
            if self.rng.random() < 0.3:
                self.world.spawn(self._produce_at_some_time(f"order-{number}"))
        self.world.spawn(self._send_commands_at_random())
        self.world.spawn(self._set_the_clock())
        if self.several:
            self.world.spawn(self._freeze_at_random())
        async with asyncio.TaskGroup() as group:
            for number in range(self.bridges):
                group.create_task(self._run_processes(number))
        self.lasted = int(asyncio.get_running_loop().time())

    async def _run_processes(self, number: int) -> None:
        """One process after the other; the last one runs to the end, despite the remaining faults."""
        for generation in range(self.rng.randint(1, 2 if self.several else LIVES)):
            await self.live(f"process-{number}-{generation}", self._live_dangerously)
            await asyncio.sleep(self.rng.choice([0.0, 1.0]))
        await self.live(f"the-last-{number}", self._outlive)

    async def _outlive(self, process: BridgeProcess) -> None:
        await process.run_for(self.rng.choice([0.0, 8.0]) if self.several else 0.0)
        self.troubled -= 1
        while self.troubled:
            await process.run_for(0.5)
        if not self.world.calm:
            self.world.calm = True
            self.world.remind_humans()
        await self._until_settled(process)

    async def _live_dangerously(self, process: BridgeProcess) -> None:
        dies = self.rng.random() < 0.7
        long = [0.3, 3.0, 10.0, 20.0] if self.several else [0.05, 0.3, 1.0, 3.0]
        await process.run_for(self.rng.choice(long) * (0.5 + self.rng.random()))
        if process.os_process.was_frozen:  # and has just resumed, because nothing ends while it is suspended
            await process.run_for(self.rng.choice([0.0, 5.0]))
        self.crashed += dies
        self.ended_in_order += not dies
        if dies:
            raise Crash

    async def _until_settled(self, process: BridgeProcess) -> None:
        began = asyncio.get_running_loop().time()
        while not self._at_rest():
            assert asyncio.get_running_loop().time() - began < CALM_LIMIT, "not settled in time"
            await process.run_for(0.5)

    def _at_rest(self) -> bool:
        """Nothing is left to do, and no dead process counts as alive."""
        if self.world.tasks or self.count(UNSETTLED):
            return False
        self.check_store()
        return self.members() <= {process.name for process in self.processes}

    def _wall(self) -> float:
        return NOW + asyncio.get_running_loop().time() + self.clock_is_off_by

    def _any_process(self) -> BridgeProcess | None:
        """The process that an external call happens to reach."""
        return self.rng.choice(self.processes) if self.processes else None

    async def _freeze_at_random(self) -> None:
        """Sometimes a process is suspended, mostly for longer than the timeout of heartbeats."""
        for _ in range(self.rng.choice([0, 1, 1, 2, 3])):
            await asyncio.sleep(self.rng.random() * self._span / 2)
            process = self._any_process()
            if process is not None and self.world.happens("frozen", 1.0):
                process.os_process.freeze()
                try:
                    await asyncio.sleep(self.rng.choice([3.0, 12.0, 20.0]))
                finally:
                    process.os_process.thaw()

    async def _produce_at_some_time(self, key: str) -> None:
        await asyncio.sleep(self.rng.random() * self._span)
        await self.produce(key)

    async def _ask_for(self, request: Any) -> Accepted | None:
        with suppress(StoreUnavailable):
            if (process := self._any_process()) is not None:
                return await process.accept(request, Envelope("queue", reply_to="reply.shop"))
        return None

    async def _send_commands_at_random(self) -> None:
        """An operator who sometimes cancels, retries, and abandons."""
        for _ in range(self.rng.choice([0, 0, 1, 3])):
            await asyncio.sleep(self.rng.random() * 5)
            process = self._any_process()
            commands: list[RunCommand] = [Cancel(), Retry(), Abandon()]
            command = self.rng.choice(commands)
            runs = sorted(run_id for run_ids in self.responses.values() for run_id in run_ids)
            if process is not None and runs:
                run_id = self.rng.choice(runs)
                if isinstance(command, Retry):
                    self.retried.add(run_id)
                with suppress(*REFUSALS):
                    await process.apply_command(run_id, command)

    async def _set_the_clock(self) -> None:
        """Sometimes the machine's clock is set."""
        await asyncio.sleep(self.rng.random() * 5)
        if self.world.happens("clock set", 0.2):
            far = [] if self.several else [40_000.0, -40_000.0]  # the clocks of several machines roughly agree
            self.clock_is_off_by = self.rng.choice([*far, 5.0, -5.0])

    async def _answer(self, run_id: str, command: Resume) -> Run | None:
        process = self._any_process()
        return None if process is None else await process.apply_command(run_id, command)

    async def _webhook(self, token: str, kind: Any, body: dict[str, Any]) -> None:
        with suppress(*REFUSALS):
            if (process := self._any_process()) is not None:
                await process.webhook(token, kind, body)
