"""A whole history from one seed: producers, operators, and processes that come and go; then calm, and the checks."""

import asyncio
import random
import sqlite3
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge.core.errors import PostInProgress, RequestRefused, Stale, StoreUnavailable
from bridge.core.human_input.feedback import Resume
from bridge.core.runs.commands import Abandon, Cancel, Retry, RunCommand
from bridge.core.runs.model import CrewPolicy, DoubtPolicy, Envelope, Run
from bridge.ports.inbound import Accepted
from tests.component.steps.conftest import POLICY
from tests.fakes import NOW, Ids, a_request
from tests.simulation.bridge_process import Crash, Life, Site
from tests.simulation.questions import DEFAULT
from tests.simulation.virtual_time import run_virtually
from tests.simulation.world import World

REQUESTS = 6
LIVES = 3
PLACES = 4
CALM_LIMIT = 1800.0
LONG = 200.0
"""A deadline that only an execution exceeds which waits for ever."""
REFUSALS = (StoreUnavailable, RequestRefused, PostInProgress, Stale)
PLACES_HELD = """
    SELECT count(*) FROM runs WHERE state IN ('starting', 'running', 'waiting_for_human')
    AND run_id NOT IN (SELECT run_id FROM events WHERE type = 'run.in_doubt')
"""
"""Without those whose evidence came when they had given their place away, as `run.in_doubt` had told."""
OWNERS = """
    SELECT owner FROM runs WHERE owner IS NOT NULL UNION SELECT owner FROM deliveries WHERE owner IS NOT NULL
"""
NOTE_WHAT_IS_GIVEN_UP = """
    CREATE TABLE given_up (run_id TEXT);
    CREATE TRIGGER starts_given_up AFTER UPDATE OF owner ON runs
    WHEN OLD.owner IS NOT NULL AND NEW.owner IS NULL AND OLD.state = 'starting' AND NEW.state = 'starting'
    BEGIN INSERT INTO given_up VALUES (OLD.run_id); END;
"""
"""Runs whose POST was awaited when the others took their process for dead; only the store sees all of them."""
UNSETTLED = """
    SELECT (SELECT count(*) FROM runs WHERE finished_at IS NULL AND (state != 'in_doubt' OR due_at IS NOT NULL))
         + (SELECT count(*) FROM deliveries WHERE state = 'pending')
"""


@dataclass
class History:
    """One seed's story, of so many bridges alive at once; `play` tells it to the end."""

    seed: int
    file: Path
    bridges: int = 1
    slots: int = PLACES
    dice: random.Random = field(init=False)
    world: World = field(init=False)
    site: Site = field(init=False)
    lives: list[Life] = field(default_factory=list)
    """Those that are alive."""
    clock_is_off_by: float = 0.0
    responses: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Key → the ids of the runs that producers were told."""
    retried: set[str] = field(default_factory=set)
    ended_in_order: int = 0
    crashed: int = 0
    lasted: int = 0
    """Virtual seconds."""
    troubled: int = field(init=False)
    """Places whose last process is still to come, or to see what the others see."""
    most_places: int = 0
    unverified: set[str] = field(default_factory=set)
    """Owners of rows that the store did not know as processes."""

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.troubled = self.bridges
        self.world = World(self.dice, webhook=self._webhook, tracked=self.look_at_the_store)
        policies = [DoubtPolicy.HOLD] * 60 + [DoubtPolicy.FAIL] * 30 + [DoubtPolicy.RETRY]  # which takes ten minutes
        self.policy: CrewPolicy = replace(
            POLICY,
            in_doubt=self.dice.choice(policies),
            in_doubt_after=self.dice.choice([2.0, 6.0]),
            deadline=self.dice.choice([4.0, LONG]),
            extra_events=self.dice.choice([frozenset(), frozenset({"started", "progress"})]),
            human_input=self.dice.random() < 0.5,
            questions_announced=self.dice.random() < 0.5,
            human_deadline=self.dice.choice([None, 8.0]),
            human_default=self.dice.choice([None, DEFAULT]),
        )
        if self.policy.human_input:
            self.world.answer = self._answer
            self.world.patience = self.policy.human_deadline
        self.site = Site(self.world, self.file, self.policy, Ids(), self.slots, shared=self.several)
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
        """For how many seconds something comes from outside; several go on until those taken for dead are buried."""
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

    def look_at_the_store(self) -> None:
        """Note what must hold at any time."""
        self.most_places = max(self.most_places, self.count(PLACES_HELD))
        self.unverified |= self.owners() - self.members()

    def play(self) -> None:
        """From the first request until everything has come to rest."""
        run_virtually(self._play())

    async def live(self, name: str, work: Callable[[Life], Awaitable[None]]) -> None:
        """One process, from its start to its end."""
        life = Life(self.site, name, self._wall)

        async def inside() -> None:
            with suppress(Crash):
                async with life.alive():
                    self.lives.append(life)
                    try:
                        await work(life)
                    finally:
                        self.lives.remove(life)

        await asyncio.get_running_loop().create_task(inside(), context=life.process.context())

    async def produce(self, key: str) -> None:
        """A producer asks until it is answered, as the contract says; some do so twice."""
        request = a_request(idempotency_key=key)
        while not (answer := await self._ask_for(request)):  # noqa: ASYNC110 - a producer knows nothing of our events
            await asyncio.sleep(0.5)
        self.responses[key].add(answer.run.run_id)

    async def _play(self) -> None:
        for number in range(self.requests):
            self.world.spawn(self._produce_at_some_time(f"order-{number}"))
            if self.dice.random() < 0.3:
                self.world.spawn(self._produce_at_some_time(f"order-{number}"))
        self.world.spawn(self._steer_at_random())
        self.world.spawn(self._set_the_clock())
        if self.several:
            self.world.spawn(self._freeze_at_random())
        async with asyncio.TaskGroup() as group:
            for place in range(self.bridges):
                group.create_task(self._come_and_go(place))
        self.lasted = int(asyncio.get_running_loop().time())

    async def _come_and_go(self, place: int) -> None:
        """One process after the other; the last one lives to the end, through what troubles there still are."""
        for number in range(self.dice.randint(1, 2 if self.several else LIVES)):
            await self.live(f"process-{place}-{number}", self._live_dangerously)
            await asyncio.sleep(self.dice.choice([0.0, 1.0]))
        await self.live(f"the-last-{place}", self._outlive)

    async def _outlive(self, life: Life) -> None:
        await life.last(self.dice.choice([0.0, 8.0]) if self.several else 0.0)
        self.troubled -= 1
        while self.troubled:
            await life.last(0.5)
        if not self.world.calm:
            self.world.calm = True
            self.world.ask_everybody()
        await self._until_settled(life)

    async def _live_dangerously(self, life: Life) -> None:
        dies = self.dice.random() < 0.7
        long = [0.3, 3.0, 10.0, 20.0] if self.several else [0.05, 0.3, 1.0, 3.0]
        await life.last(self.dice.choice(long) * (0.5 + self.dice.random()))
        if life.process.was_frozen:  # and has just woken up, as nothing ends while it stands still
            await life.last(self.dice.choice([0.0, 5.0]))
        self.crashed += dies
        self.ended_in_order += not dies
        if dies:
            raise Crash

    async def _until_settled(self, life: Life) -> None:
        began = asyncio.get_running_loop().time()
        while not self._at_rest():
            assert asyncio.get_running_loop().time() - began < CALM_LIMIT, "not settled in time"
            await life.last(0.5)

    def _at_rest(self) -> bool:
        """Nothing is left to do, and of those that are no more nobody is taken for alive."""
        if self.world.tasks or self.count(UNSETTLED):
            return False
        self.look_at_the_store()
        return self.members() <= {life.name for life in self.lives}

    def _wall(self) -> float:
        return NOW + asyncio.get_running_loop().time() + self.clock_is_off_by

    def _somebody(self) -> Life | None:
        """Whom a caller from outside happens to reach."""
        return self.dice.choice(self.lives) if self.lives else None

    async def _freeze_at_random(self) -> None:
        """Now and then a process stands still, mostly for longer than the others wait for a sign of life."""
        for _ in range(self.dice.choice([0, 1, 1, 2, 3])):
            await asyncio.sleep(self.dice.random() * self._span / 2)
            life = self._somebody()
            if life is not None and self.world.happens("frozen", 1.0):
                life.process.freeze()
                try:
                    await asyncio.sleep(self.dice.choice([3.0, 12.0, 20.0]))
                finally:
                    life.process.thaw()

    async def _produce_at_some_time(self, key: str) -> None:
        await asyncio.sleep(self.dice.random() * self._span)
        await self.produce(key)

    async def _ask_for(self, request: Any) -> Accepted | None:
        with suppress(StoreUnavailable):
            if (life := self._somebody()) is not None:
                return await life.accept(request, Envelope("queue", reply_to="reply.shop"))
        return None

    async def _steer_at_random(self) -> None:
        """An operator who cancels, retries and abandons now and then."""
        for _ in range(self.dice.choice([0, 0, 1, 3])):
            await asyncio.sleep(self.dice.random() * 5)
            life = self._somebody()
            commands: list[RunCommand] = [Cancel(), Retry(), Abandon()]
            command = self.dice.choice(commands)
            runs = sorted(run_id for told in self.responses.values() for run_id in told)
            if life is not None and runs:
                run_id = self.dice.choice(runs)
                if isinstance(command, Retry):
                    self.retried.add(run_id)
                with suppress(*REFUSALS):
                    await life.apply_command(run_id, command)

    async def _set_the_clock(self) -> None:
        """Now and then somebody sets the machine's clock."""
        await asyncio.sleep(self.dice.random() * 5)
        if self.world.happens("clock set", 0.2):
            far = [] if self.several else [40_000.0, -40_000.0]  # the clocks of several machines agree by and large
            self.clock_is_off_by = self.dice.choice([*far, 5.0, -5.0])

    async def _answer(self, run_id: str, command: Resume) -> Run | None:
        life = self._somebody()
        return None if life is None else await life.apply_command(run_id, command)

    async def _webhook(self, token: str, kind: Any, body: dict[str, Any]) -> None:
        with suppress(*REFUSALS):
            if (life := self._somebody()) is not None:
                await life.webhook(token, kind, body)
