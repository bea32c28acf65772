"""A whole history from one seed: producers, operators, and processes that come and go; then calm, and the checks."""

import asyncio
import random
import sqlite3
from collections import defaultdict
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bridge.core.errors import PostUnderWay, RequestRefused, Stale, StoreUnavailable
from bridge.core.feedback import Resume
from bridge.core.model import CrewPolicy, DoubtPolicy, Envelope, Run
from bridge.core.steering import Abandon, Cancel, Retry, Steering
from bridge.ports import Accepted
from tests.fakes import NOW, Ids, a_request
from tests.simulation.life import PLACES_HELD, Crash, Life
from tests.simulation.questions import DEFAULT
from tests.simulation.virtual import run_virtually
from tests.simulation.world import World
from tests.steps.conftest import POLICY

REQUESTS = 6
LIVES = 3
CALM_LIMIT = 1800.0
LONG = 200.0
"""A deadline that only an execution exceeds which waits for ever."""
REFUSALS = (StoreUnavailable, RequestRefused, PostUnderWay, Stale)
UNSETTLED = """
    SELECT (SELECT count(*) FROM runs WHERE finished_at IS NULL AND (state != 'in_doubt' OR due_at IS NOT NULL))
         + (SELECT count(*) FROM deliveries WHERE state = 'pending')
"""


@dataclass
class History:
    """One seed's story; `play` tells it to the end."""

    seed: int
    file: Path
    dice: random.Random = field(init=False)
    world: World = field(init=False)
    life: Life | None = None
    ids: Ids = field(default_factory=Ids)
    clock_is_off_by: float = 0.0
    answers: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Key → the ids of the runs that producers were told."""
    retried: set[str] = field(default_factory=set)
    ended_in_order: int = 0
    crashed: int = 0
    lasted: int = 0
    """Virtual seconds."""

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.world = World(self.dice, webhook=self._webhook, places_held=lambda: self.count(PLACES_HELD))
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

    def count(self, query: str) -> int:
        with closing(sqlite3.connect(self.file)) as reader:
            number: int = reader.execute(query).fetchone()[0]
            return number

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.file)) as reader:
            return reader.execute(query).fetchall()

    def play(self) -> None:
        """From the first request until everything has come to rest."""
        run_virtually(self._play())

    async def _play(self) -> None:
        for number in range(REQUESTS):
            self.world.spawn(self._produce(f"order-{number}"))
            if self.dice.random() < 0.3:
                self.world.spawn(self._produce(f"order-{number}"))
        self.world.spawn(self._steer_at_random())
        self.world.spawn(self._set_the_clock())
        for number in range(self.dice.randint(1, LIVES)):
            await self._live_dangerously(f"process-{number}")
            await asyncio.sleep(self.dice.choice([0.0, 1.0]))
        self.world.calm = True
        self.world.ask_everybody()
        async with Life(*self._parts("the-last")).alive() as self.life:
            await self._until_settled(self.life)
        self.life = None
        self.lasted = int(asyncio.get_running_loop().time())

    def _parts(self, name: str) -> tuple[World, Path, str, CrewPolicy, Any, Ids]:
        return self.world, self.file, name, self.policy, self._wall, self.ids

    def _wall(self) -> float:
        return NOW + asyncio.get_running_loop().time() + self.clock_is_off_by

    async def _live_dangerously(self, name: str) -> None:
        dies = self.dice.random() < 0.7
        with suppress(Crash):
            async with Life(*self._parts(name)).alive() as self.life:
                await self.life.last(self.dice.choice([0.05, 0.3, 1.0, 3.0]) * (0.5 + self.dice.random()))
                self.crashed += dies
                self.ended_in_order += not dies
                if dies:
                    raise Crash

    async def _until_settled(self, life: Life) -> None:
        began = asyncio.get_running_loop().time()
        while self.world.tasks or self.count(UNSETTLED):
            assert asyncio.get_running_loop().time() - began < CALM_LIMIT, "not settled in time"
            await life.last(0.5)

    async def _produce(self, key: str) -> None:
        """A producer asks until it is answered, as the contract says; some do so twice."""
        await asyncio.sleep(self.dice.random() * 3)
        request = a_request(idempotency_key=key)
        while not (answer := await self._ask_for(request)):  # noqa: ASYNC110 - a producer knows nothing of our events
            await asyncio.sleep(0.5)
        self.answers[key].add(answer.run.run_id)

    async def _ask_for(self, request: Any) -> Accepted | None:
        with suppress(StoreUnavailable):
            if self.life is not None:
                return await self.life.accept(request, Envelope("queue", reply_to="reply.shop"))
        return None

    async def _steer_at_random(self) -> None:
        """An operator who cancels, retries and abandons now and then."""
        for _ in range(self.dice.choice([0, 0, 1, 3])):
            await asyncio.sleep(self.dice.random() * 5)
            wishes: list[Steering] = [Cancel(), Retry(), Abandon()]
            wish = self.dice.choice(wishes)
            runs = sorted(run_id for told in self.answers.values() for run_id in told)
            if self.life is not None and runs:
                run_id = self.dice.choice(runs)
                if isinstance(wish, Retry):
                    self.retried.add(run_id)
                with suppress(*REFUSALS):
                    await self.life.steer(run_id, wish)

    async def _set_the_clock(self) -> None:
        """Now and then somebody sets the machine's clock."""
        await asyncio.sleep(self.dice.random() * 5)
        if self.world.happens("clock set", 0.2):
            self.clock_is_off_by = self.dice.choice([40_000.0, -40_000.0, 5.0, -5.0])

    async def _answer(self, run_id: str, wish: Resume) -> Run | None:
        return None if self.life is None else await self.life.steer(run_id, wish)

    async def _webhook(self, token: str, kind: Any, body: dict[str, Any]) -> None:
        with suppress(*REFUSALS):
            if self.life is not None:
                await self.life.hint(token, kind, body)
