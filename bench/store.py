"""Cost of the store: CPU per run of each write that a run needs, with as many concurrent callers as in the daemon.

`python -m bench.store --runs 5000 --at-once 64`.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import uuid_utils
import uvloop

from bridge.adapters.store import SqlStore, database, open_store
from bridge.core.crew.responses import Started, Succeeded
from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery.model import Channel
from bridge.core.delivery.outcome import Confirmed, outcome_of_attempt
from bridge.core.runs import state_machine, tracking
from bridge.core.runs.model import Envelope, KickoffRequest, Run
from bridge.core.runs.observation import apply_observation, observe

POLICY = CrewPolicy(results_exchange=True)


async def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(database(f"sqlite:///{folder}/bench.db"), "bench", 0.0) as store:
            await measure(store, options.runs, options.at_once)


async def measure(store: SqlStore, count: int, at_once: int) -> None:
    new = [_request(number) for number in range(count)]
    await _timed("accept", new, store.accept, at_once)
    starting: list[Run] = []
    await _timed("claim", range(0, count, at_once), lambda _: _claim(store, starting, at_once), 1, count)
    running: list[Run] = []
    await _timed(
        "started", starting,
        lambda run: _apply(store, state_machine.on_kickoff(run, Started(f"k-{run.run_id}"), POLICY, 1.0), running),
        at_once
    )  # fmt: skip
    await _timed("finish", running, lambda run: _finish(store, run), at_once)
    deliveries: list[Any] = []
    await _timed("claim delivery", range(0, count, 100), lambda _: _claim_deliveries(store, deliveries), 1, count)
    record = store.deliveries.record_outcome
    await _timed("delivered", deliveries, lambda one: record(outcome_of_attempt(one, Confirmed(), 3.0)), at_once)


async def _timed(
    what: str, items: Sequence[Any], act: Callable[[Any], Awaitable[Any]], at_once: int, count: int | None = None
) -> None:
    waiting = iter(items)

    async def one_after_the_other() -> None:
        for item in waiting:
            await act(item)

    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    count = count or len(items)
    print(f"{what:15} {cpu * 1e6 / count:6.0f} µs CPU, {wall * 1e6 / count:6.0f} µs wall per run")


def _request(number: int) -> Run:
    request = KickoffRequest("bench", {"topic": str(number)}, idempotency_key=f"m-{number}")
    return state_machine.accept(request, Envelope("queue/kickoff.requests"), str(uuid_utils.uuid7()), 0.0)


async def _claim(store: SqlStore, claimed: list[Run], limit: int) -> None:
    claimed += await store.claim_accepted("bench", limit, 1_000_000, 1.0)


async def _apply(store: SqlStore, decision: Any, into: list[Run]) -> None:
    written = await store.apply(decision)
    assert isinstance(written, Run)
    into.append(written)


async def _finish(store: SqlStore, run: Run) -> None:
    loaded = await store.load(run.run_id)
    assert loaded is not None
    tracked = replace(tracking.tracked_from_run(loaded, POLICY, 1.0), started_at=1.0)
    await store.apply(apply_observation(loaded, observe(tracked, Succeeded("done"), POLICY, 2.0), POLICY))


async def _claim_deliveries(store: SqlStore, into: list[Any]) -> None:
    into += await store.deliveries.claim(list(Channel), 100, 3.0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--at-once", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
