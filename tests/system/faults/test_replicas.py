"""Several bridges on one database: killed, suspended, with repeated messages, and with an unavailable database.

`make replicas` runs everything at full size; figures are printed.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp
import psycopg
import pytest

from tests.postgres import PostgresServer
from tests.system.acceptance.harness import Daemon, eventually, publish
from tests.system.acceptance.replicas import Replicas, replicas_of
from tests.system.faults.harness import requests

pytestmark = pytest.mark.timeout(3600)

OWNERSHIP = 9.0  # seconds without a heartbeat after which a process expires
TAKEN_OVER_WITHIN = 8  # heartbeats of a live process, one every 2 s on an idle machine
FAST = {"max_running": 400, "requests_per_second": 2000, "poll": {"min_interval": "300ms", "max_interval": "300ms"}}


@pytest.fixture
async def replicas(tmp_path: Path, amqp: str, postgres: PostgresServer) -> AsyncIterator[Replicas]:
    """None of them started; runs take up to a second, and each POST a third of a second."""
    async with replicas_of(tmp_path, amqp, postgres, "uniform:0.1:1", kickoff_delay=0.3, crew=FAST) as found:
        yield found


@pytest.mark.nightly
async def test_three_bridges_divide_the_work_evenly_and_do_nothing_twice(
    tmp_path: Path, amqp: str, postgres: PostgresServer, full: bool
) -> None:
    count = 10_000 if full else 600
    async with replicas_of(tmp_path, amqp, postgres, "uniform:0.1:1", crew=FAST) as replicas:
        await replicas.start(3)
        began = time.monotonic()
        half = count // 2
        await asyncio.gather(publish(amqp, requests(half)), publish(amqp, requests(half, start=half)))
        await replicas.all_ended(count)
        took = time.monotonic() - began
        results = await replicas.judge(count)
        counts = [daemon.log_events()["run_ended"] for daemon in replicas.all]
        in_doubt = await replicas.in_doubt()
    print(
        f"shares: {count} requests in {took:.0f} s, runs ended by each {counts}, copies of events {results.duplicates}"
    )
    assert in_doubt == 0
    assert sum(counts) == count
    if full:
        assert max(abs(one - count / 3) for one in counts) <= 0.2 * count / 3
    assert min(counts) > 0, "with few requests, the division depends on chance and load"


@pytest.mark.nightly
async def test_the_runs_of_a_killed_bridge_are_taken_over_within_eight_heartbeats(
    tmp_path: Path, amqp: str, postgres: PostgresServer, full: bool
) -> None:
    """SIGKILL under load, one of three in turn; the others continue its runs, and it returns."""
    kills, each = (10, 200) if full else (1, 100)
    async with replicas_of(tmp_path, amqp, postgres, "uniform:5:25", kickoff_delay=0.3, crew=FAST) as replicas:
        await replicas.start(3)
        times, heartbeats = list[float](), list[int]()
        for number in range(kills):
            daemon = replicas.all[number % 3]
            producing = asyncio.create_task(publish(amqp, requests(each, start=number * each)))
            await eventually(lambda: replicas.posting(daemon, 3), "it has POSTs in hand")  # noqa: B023
            await daemon.kill()
            killed = time.monotonic()
            heartbeats.append(await _heartbeats_until_it_owns_nothing(replicas, daemon, replicas.all[(number + 1) % 3]))
            times.append(time.monotonic() - killed)
            await producing
            await replicas.start_again(daemon)
        await replicas.all_ended(kills * each)
        await replicas.judge(kills * each)
        in_doubt = await replicas.in_doubt()
    print(f"kills: {kills} of {kills * each} requests, taken over after {_seconds(times)} s, in doubt {in_doubt}")
    assert max(heartbeats) <= TAKEN_OVER_WITHIN


async def test_bridges_suspended_beyond_their_expiry_post_nothing_twice(replicas: Replicas, full: bool) -> None:
    """M11: suspended with POSTs in flight for twice the expiry time, several at once, then resumed."""
    bridges, suspended, rounds = (6, 4, 13) if full else (3, 1, 1)
    await replicas.start(bridges)
    count = 0
    for number in range(rounds):
        sleepers = [replicas.all[(number * suspended + position) % bridges] for position in range(suspended)]
        count += await _suspend(replicas, sleepers, first=count)
        await eventually(lambda: replicas.living(bridges), "all have joined again")
    await replicas.all_ended(count)
    await replicas.judge(count)
    refused = sum([await daemon.metric("kickoff_bridge_stale_writes_total") for daemon in replicas.all])
    logged = [daemon.log_events() for daemon in replicas.all]
    rejoined = sum(events["process_rejoined"] for events in logged)
    written = sum(events["run_resolved_by_late_response"] for events in logged)
    in_doubt = await replicas.in_doubt()
    print(
        f"sleeps: {rounds * suspended} of {bridges} bridges, {count} requests, rejoined {rejoined}, refused writes "
        f"{refused:.0f}, resolved by late responses {written}, in doubt {in_doubt}"
    )
    assert rejoined >= rounds * suspended
    assert sum(events["late_kickoff_response_discarded"] for events in logged) == 0, "a kickoff id that was received"
    assert refused > 0, "the version check was needed"


@pytest.mark.nightly
async def test_a_rolling_restart_under_load_leaves_nothing_in_doubt(replicas: Replicas, full: bool) -> None:
    """M20, within one version: SIGTERM with POSTs in flight while requests arrive, then a new process."""
    await replicas.start(3)
    count = 0
    for bridge in replicas.all * 3 if full else replicas.all[:1]:
        replaced = asyncio.Event()
        producing = asyncio.create_task(_produce(replicas, count, replaced))
        await eventually(partial(replicas.posting, bridge, 2), "it has POSTs in hand")
        assert await bridge.terminate() == 0
        replaced.set()
        await replicas.start_again(bridge)
        count += await producing
    await replicas.all_ended(count)
    await replicas.judge(count)
    assert await replicas.in_doubt() == 0
    print(f"replaced: {9 if full else 1} of 3 bridges, {count} requests, nothing in doubt")


@pytest.mark.nightly
async def test_a_database_that_fails_under_load_loses_nothing(
    replicas: Replicas, postgres: PostgresServer, seed: int, full: bool
) -> None:
    """M12: terminated backends, restarts, crashes, no free connection, a lock that is held too long."""
    faults: list[Callable[[Replicas], Awaitable[None]]] = [_cut, _restart, _crash, _exhaust, _lock]
    times, each = (8, 50) if full else (1, 40)
    expected = faults * times
    random.Random(seed).shuffle(expected)
    print(f"seed {seed}")
    await replicas.start(3)
    producing = []
    for number, fault in enumerate(expected):
        producing.append(asyncio.create_task(publish(replicas.amqp, requests(each, start=number * each))))
        await eventually(lambda: _under_way(replicas), "load")
        await fault(replicas)
    await asyncio.gather(*producing)
    count = len(expected) * each
    await replicas.all_ended(count)
    results = await replicas.judge(count)
    in_doubt = await replicas.in_doubt()
    print(f"database: {len(expected)} faults, {count} requests, in doubt {in_doubt}, event copies {results.duplicates}")
    assert [daemon.log_events()["started"] for daemon in replicas.all] == [1, 1, 1]


@pytest.mark.nightly
async def test_copies_over_http_and_amqp_at_three_bridges_are_one_run_each(
    replicas: Replicas, seed: int, full: bool
) -> None:
    """M18: every message up to five times, and every call at all three bridges at the same time."""
    count = 1000 if full else 40
    rng = random.Random(seed)
    print(f"seed {seed}")
    await replicas.start(3)
    messages, calls = requests(count), requests(count, start=count)
    copies = [one for one in messages for _ in range(rng.randint(0, 4))]
    rng.shuffle(copies)
    await asyncio.gather(
        publish(replicas.amqp, messages),
        publish(replicas.amqp, copies),
        *(_call_all(replicas, calls[start::8]) for start in range(8)),
    )
    await replicas.all_ended(2 * count)
    await replicas.judge(2 * count)
    assert await replicas.in_doubt() == 0
    print(f"copies: {2 * count} requests, {len(copies)} more messages and {2 * count} more calls")


async def _call_all(replicas: Replicas, expected: list[dict[str, object]]) -> None:
    """Send one request after the other, each to all bridges with the same key: the responses name one run."""

    async def call(session: aiohttp.ClientSession, bridge: Daemon, request: dict[str, object]) -> str:
        headers = {"Idempotency-Key": str(request["inputs"])}
        async with session.post(f"{bridge.url}/v1/runs", json=request, headers=headers) as response:
            assert response.status == 202, await response.text()
            return str((await response.json())["run_id"])

    async with aiohttp.ClientSession() as session:
        for request in expected:
            runs = await asyncio.gather(*(call(session, bridge, request) for bridge in replicas.all))
            assert len(set(runs)) == 1


async def _suspend(replicas: Replicas, sleepers: list[Daemon], first: int) -> int:
    """Suspend each with POSTs in flight, resume all after their expiry; return the number of requests used."""
    all_stopped = asyncio.Event()
    producing = asyncio.create_task(_produce(replicas, first, all_stopped))
    try:
        await asyncio.gather(*(_stop(replicas, sleeper) for sleeper in sleepers))
        all_stopped.set()
        await asyncio.sleep(2 * OWNERSHIP)
        for sleeper in sleepers:
            await eventually(partial(replicas.given_up, sleeper), "the suspended process has expired")
    finally:
        all_stopped.set()
        for sleeper in sleepers:
            sleeper.send(signal.SIGCONT)
    return await producing


async def _produce(replicas: Replicas, first: int, enough: asyncio.Event) -> int:
    """Publish requests until there are enough for every bridge to have some; return their number."""
    count = 0
    while not enough.is_set():
        await publish(replicas.amqp, requests(20, start=first + count))
        count += 20
    return count


async def _stop(replicas: Replicas, sleeper: Daemon) -> None:
    await eventually(lambda: replicas.posting(sleeper, 2), "it has POSTs in hand")
    sleeper.send(signal.SIGSTOP)


async def _heartbeats_until_it_owns_nothing(replicas: Replicas, daemon: Daemon, other: Daemon) -> int:
    """The number of heartbeats of the other one meanwhile."""
    seen = set[float]()

    async def met() -> bool:
        seen.add(await replicas.heartbeat_of(other.pid))
        return await replicas.owned_by(daemon.pid) == 0

    await eventually(met, "taken over")
    return len(seen) - 1


async def _under_way(replicas: Replicas) -> bool:
    [(found,)] = await replicas.query("SELECT count(*) FROM runs WHERE state IN ('starting', 'running')")
    return bool(found >= 3)


async def _connections_ended(replicas: Replicas) -> bool:
    return await asyncio.to_thread(replicas.server.end_connections, replicas.database) > 0


async def _cut(replicas: Replicas) -> None:
    """Three times, so that connections opened again are hit as well."""
    for _ in range(3):
        await eventually(lambda: _connections_ended(replicas), "connections to end")
        await asyncio.sleep(0.3)


async def _restart(replicas: Replicas) -> None:
    await asyncio.to_thread(replicas.server.stop)
    await asyncio.to_thread(replicas.server.start)


async def _crash(replicas: Replicas) -> None:
    await asyncio.to_thread(replicas.server.kill)
    await asyncio.to_thread(replicas.server.start)


async def _exhaust(replicas: Replicas) -> None:
    """No connection is free for three seconds, while the bridges have to reconnect."""
    url = replicas.server.url("postgres")
    async with AsyncExitStack() as held:
        await asyncio.to_thread(replicas.server.end_connections, replicas.database)
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                await held.enter_async_context(await psycopg.AsyncConnection.connect(url))
        await asyncio.sleep(3)


async def _lock(replicas: Replicas) -> None:
    """Longer than the lock timeout of the store."""
    url = replicas.server.url(replicas.database)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(6)


def _seconds(times: list[float]) -> str:
    return f"{min(times):.1f} to {max(times):.1f}"
