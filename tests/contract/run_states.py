"""Builders of stored runs in various states."""

from collections import Counter
from dataclasses import replace
from typing import Any

from bridge.adapters.store import SqlStore
from bridge.core.crew.responses import Failed, InDoubt, Refused, Started
from bridge.core.crew_policy import CrewPolicy
from bridge.core.runs import state_machine, tracking
from bridge.core.runs.model import Decision, Run
from bridge.core.runs.observation import apply_observation, observe
from bridge.ports.queries import DeliveryFilter, RunFilter
from tests.contract.conftest import SqliteAdapter
from tests.fakes import NOW, a_run, applied

POLICY = CrewPolicy(results_exchange=True)
CALLBACK = replace(POLICY, callback_url="https://shop.example/done")


async def counts(store: SqlStore) -> dict[str, Counter[str]]:
    """The number of runs and of deliveries by state."""
    runs = await store.queries.find_runs(RunFilter(limit=1000))
    deliveries = await store.queries.find_deliveries(DeliveryFilter(limit=1000))
    assert not runs.more
    return {
        "runs": Counter(run.state.value for run in runs.items),
        "deliveries": Counter(delivery.state.value for delivery in deliveries),
    }


async def accepted(store: SqlStore, number: int = 1, **more: Any) -> Run:
    return (await store.accept(a_run(number, **more))).run


async def claimed(store: SqlStore, number: int = 1, **more: Any) -> Run:
    await accepted(store, number, **more)
    [run] = await store.claim_accepted("research", 1, 1_000_000, NOW)
    return run


async def started(store: SqlStore, number: int = 1, **more: Any) -> Run:
    run = await claimed(store, number, **more)
    return await applied(store, state_machine.on_kickoff(run, Started(f"k-{number}"), POLICY, NOW))


async def refused(store: SqlStore, number: int = 1, policy: CrewPolicy = POLICY, at: float = NOW) -> Run:
    run = await claimed(store, number)
    return await applied(store, state_machine.on_kickoff(run, Refused("no"), policy, at))


async def in_doubt(store: SqlStore, number: int = 1) -> Run:
    run = await claimed(store, number)
    return await applied(store, state_machine.on_kickoff(run, InDoubt("502"), POLICY, NOW))


def ids(runs: list[Run]) -> list[str]:
    return [run.run_id for run in runs]


def end_of(run: Run) -> Decision:
    tracked = replace(tracking.tracked_from_run(run, POLICY, NOW), polls=1)
    return apply_observation(run, observe(tracked, Failed("boom"), POLICY, NOW), POLICY)


async def fill_and_damage(sqlite: SqliteAdapter) -> bytes:
    """Overwrite the last pages of a store that has some runs; return the content of the file."""
    async with sqlite.open() as store:
        for number in range(1, 40):
            await accepted(store, number, inputs={"x": "y" * 3000})
    content = bytearray(sqlite.path.read_bytes())
    content[-40_000:] = b"\xa5" * 40_000
    sqlite.path.write_bytes(content)
    return bytes(content)
