"""A small simulation: processes that die anywhere, over many seeds, and the promises that must hold all the same.

A crash is an exception out of the store or out of the world's side, after which everything in memory is dropped, the
process is buried, and a new one starts on the same store.
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from bridge.adapters.store import SqlStore
from bridge.core.answers import (
    Failed,
    InDoubt,
    KickoffAnswer,
    NoAnswer,
    NotFound,
    NotStarted,
    Pending,
    Running,
    Started,
    StatusAnswer,
    Succeeded,
)
from bridge.core.delivering import Confirmed, DeliveryAnswer, TryAgain
from bridge.core.model import Delivery, DeliveryState, DoubtPolicy, State
from bridge.ports import RunFilter
from tests.fakes import HandClock, Ids
from tests.steps.conftest import POLICY, Bench

SEEDS = range(32)
RUNS = 3


NOT_OVER: list[StatusAnswer] = [Pending(), Running(), NoAnswer("x"), NotFound()]


class Crash(BaseException):
    """The process is gone; no code of ours may catch this."""


@dataclass
class World:
    """The crew API and the receivers: they remember everything, whatever happens to the bridge."""

    dice: random.Random
    crashes: int = 3
    calm: bool = False
    posts: dict[str, int] = field(default_factory=dict)
    ends: dict[str, StatusAnswer] = field(default_factory=dict)
    looks: int = 0
    got: list[Delivery] = field(default_factory=list)

    def maybe_crash(self) -> None:
        if not self.calm and self.crashes and self.dice.random() < 0.2:
            self.crashes -= 1
            raise Crash

    def luck(self, share: float) -> bool:
        return not self.calm and self.dice.random() < share

    async def turn(self) -> None:
        """No rate limit here."""

    async def kickoff(self, body: dict[str, Any]) -> KickoffAnswer:
        self.maybe_crash()
        run_id = body["meta"]["bridge_run_id"]
        if self.luck(0.15):
            return NotStarted("HTTP 503")
        self.posts[run_id] = self.posts.get(run_id, 0) + 1
        over: list[StatusAnswer] = [Succeeded("🦉", {"n": 1}, None), Failed("boom")]
        self.ends[f"k-{run_id}"] = self.dice.choice(over)
        self.maybe_crash()
        return InDoubt("HTTP 502") if self.luck(0.15) else Started(f"k-{run_id}")

    async def inputs(self) -> tuple[str, ...] | None:
        return None

    async def status(self, kickoff_id: str) -> StatusAnswer:
        self.looks += 1
        self.maybe_crash()
        if self.luck(0.6):
            return self.dice.choice([*NOT_OVER, Running({"completed": self.looks})])
        return self.ends[kickoff_id]

    ready = True

    async def send(self, delivery: Delivery) -> DeliveryAnswer:
        self.maybe_crash()
        if self.luck(0.2):
            return TryAgain("HTTP 500")
        self.got.append(delivery)
        self.maybe_crash()
        return Confirmed()


class CrashingStore:
    """Dies before or after a write, never in the middle of one: that is what a transaction is for."""

    def __init__(self, store: SqlStore, world: World) -> None:
        self._store = store
        self._world = world

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._world.maybe_crash()
            result = await method(*args, **kwargs)
            self._world.maybe_crash()
            return result

        return call


def process(store: SqlStore, world: World, clock: HandClock, ids: Ids, policy: DoubtPolicy) -> Bench:
    """A fresh process: nothing in memory but what the store says."""
    own = replace(POLICY, in_doubt=policy, deadline=1e6)
    bench = Bench(CrashingStore(store, world), own, 3, clock, ids)
    bench.api = world  # type: ignore[assignment]
    bench.sender = world  # type: ignore[assignment]
    return bench


async def live(bench: Bench, waits: list[float], dice: random.Random) -> None:
    """One life of a process: producers repeat until they were answered, and then every step has its turns."""
    await asyncio.gather(*(bench.accepted(idempotency_key=f"order-{number}") for number in range(RUNS)))
    steps = [bench.recover, bench.kickoff, bench.poll, bench.doubt, bench.deliver]
    for wait in waits:
        bench.clock.forward(wait)
        for step in dice.sample(steps, len(steps)):
            await bench.round(step)


async def live_through(store: SqlStore, seed: int, policy: DoubtPolicy) -> World:
    dice = random.Random(seed)
    world, clock, ids = World(dice), HandClock(), Ids()
    for _ in range(world.crashes + 1):
        bench = process(store, world, clock, ids, policy)
        with contextlib.suppress(Crash):
            await live(bench, [dice.choice([0.5, 5.0, 30.0, 1000.0]) for _ in range(3)], dice)
        bench.store = store
        await bench.abandon()
    world.calm = True
    await live(process(store, world, clock, ids, policy), [1000.0] * 5, dice)
    return world


@pytest.mark.parametrize("policy", [DoubtPolicy.HOLD, DoubtPolicy.FAIL])
@pytest.mark.parametrize("seeds", [SEEDS[start : start + 8] for start in range(0, 32, 8)], ids=str)
async def test_the_promises_hold_wherever_processes_die(store: SqlStore, seeds: range, policy: DoubtPolicy):
    for seed in seeds if policy is DoubtPolicy.HOLD else seeds[:1]:
        async with store._batches._transaction() as connection:
            await connection.exec_driver_sql("DELETE FROM runs")  # and with them their events and deliveries
        check(await live_through(store, seed, policy), policy, await everything(store), seed)


async def everything(store: SqlStore) -> dict[str, tuple[Any, list[Delivery]]]:
    runs = await store.find_runs(RunFilter())
    return {run.run_id: (run, await store.deliveries_of(run.run_id)) for run in runs}


def check(world: World, policy: DoubtPolicy, stored: dict[str, tuple[Any, list[Delivery]]], seed: int) -> None:
    assert len(stored) == RUNS, seed  # nothing that was asked for is lost, and nothing is there twice
    assert all(count == 1 for count in world.posts.values()), seed  # nothing is paid for twice
    for run, deliveries in stored.values():
        finals = {one.event.event_id for one in deliveries if one.event.type.split(".")[1] in set(State) - {"in_doubt"}}
        if policy is DoubtPolicy.HOLD and run.state is State.IN_DOUBT:
            assert finals == set(), seed
        else:
            assert run.final, (seed, run.state)
            assert len(finals) == 1, seed  # exactly one end
        assert {one.state for one in deliveries} == {DeliveryState.DELIVERED}, seed
        received = {(got.event.event_id, got.destination) for got in world.got if got.event.run_id == run.run_id}
        assert received == {(one.event.event_id, one.destination) for one in deliveries}, seed
    assert len({got.event.event_id for got in world.got}) == len({got.event.body for got in world.got}), seed
