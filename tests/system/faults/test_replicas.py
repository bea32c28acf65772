"""Several bridges on one database: killed, asleep, given every message several times, and with the database away.

`make replicas` plays all of it; figures are printed.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp
import psycopg
import pytest

from tests.postgres import PostgresServer, running_postgres
from tests.system.acceptance.harness import Daemon, eventually, publish
from tests.system.acceptance.replicas import Replicas, replicas_of
from tests.system.faults.harness import requests

pytestmark = pytest.mark.timeout(3600)

OWNERSHIP = 9.0  # seconds of silence after which a process is given up
TAKEN_OVER_WITHIN = 8  # beats of one that lives, one every 2 s on a quiet machine
FAST = {"max_running": 400, "requests_per_second": 2000, "poll": {"min_interval": "300ms", "max_interval": "300ms"}}


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
async def replicas(tmp_path: Path, amqp: str, postgres: PostgresServer) -> AsyncIterator[Replicas]:
    """None running yet; runs take up to a second, and each POST a third of a second."""
    async with replicas_of(tmp_path, amqp, postgres, "uniform:0.1:1", kickoff_delay=0.3, crew=FAST) as found:
        yield found


async def test_three_bridges_share_the_work_evenly_and_do_nothing_twice(
    tmp_path: Path, amqp: str, postgres: PostgresServer, full: bool
) -> None:
    count = 10_000 if full else 600
    async with replicas_of(tmp_path, amqp, postgres, "uniform:0.1:1", crew=FAST) as replicas:
        await replicas.start(3)
        began = time.monotonic()
        half = count // 2
        await asyncio.gather(publish(amqp, requests(half)), publish(amqp, requests(half, start=half)))
        await replicas.over(count)
        took = time.monotonic() - began
        results = await replicas.judge(count)
        shares = [daemon.log_events()["run_ended"] for daemon in replicas.all]
        in_doubt = await replicas.in_doubt()
    print(
        f"shares: {count} requests in {took:.0f} s, runs ended by each {shares}, copies of events {results.duplicates}"
    )
    assert in_doubt == 0
    assert sum(shares) == count
    if full:
        assert max(abs(share - count / 3) for share in shares) <= 0.2 * count / 3
    assert min(shares) > 0, "of few requests, chance and a busy machine decide"


async def test_what_a_killed_bridge_owned_is_taken_over_within_eight_beats_of_the_others(
    tmp_path: Path, amqp: str, postgres: PostgresServer, full: bool
) -> None:
    """SIGKILL under load, one of three in turn; the others go on with its runs, and it comes back."""
    kills, each = (10, 200) if full else (1, 100)
    async with replicas_of(tmp_path, amqp, postgres, "uniform:5:25", kickoff_delay=0.3, crew=FAST) as replicas:
        await replicas.start(3)
        times, beats = list[float](), list[int]()
        for number in range(kills):
            victim = replicas.all[number % 3]
            producing = asyncio.create_task(publish(amqp, requests(each, start=number * each)))
            await eventually(lambda: replicas.posting(victim, 3), "it has POSTs in hand")  # noqa: B023
            await victim.kill()
            killed = time.monotonic()
            beats.append(await _beats_until_it_owns_nothing(replicas, victim, replicas.all[(number + 1) % 3]))
            times.append(time.monotonic() - killed)
            await producing
            await replicas.start_again(victim)
        await replicas.over(kills * each)
        await replicas.judge(kills * each)
        in_doubt = await replicas.in_doubt()
    print(f"kills: {kills} of {kills * each} requests, taken over after {_seconds(times)} s, in doubt {in_doubt}")
    assert max(beats) <= TAKEN_OVER_WITHIN


async def test_bridges_that_sleep_longer_than_they_own_post_nothing_twice(replicas: Replicas, full: bool) -> None:
    """M11: stopped with POSTs in hand for twice the time of ownership, several at once, then woken up."""
    bridges, asleep, rounds = (6, 4, 13) if full else (3, 1, 1)
    await replicas.start(bridges)
    count = 0
    for number in range(rounds):
        sleepers = [replicas.all[(number * asleep + place) % bridges] for place in range(asleep)]
        count += await _sleep(replicas, sleepers, first=count)
        await eventually(lambda: replicas.living(bridges), "all have joined again")
    await replicas.over(count)
    await replicas.judge(count)
    refused = sum([await daemon.metric("kickoff_bridge_stale_writes_total") for daemon in replicas.all])
    logged = [daemon.log_events() for daemon in replicas.all]
    rejoined = sum(events["process_rejoined"] for events in logged)
    written = sum(events["in_doubt_resolved_by_late_response"] for events in logged)
    in_doubt = await replicas.in_doubt()
    print(
        f"sleeps: {rounds * asleep} of {bridges} bridges, {count} requests, rejoined {rejoined}, refused writes "
        f"{refused:.0f}, settled by late answers {written}, in doubt {in_doubt}"
    )
    assert rejoined >= rounds * asleep
    assert refused > 0, "the fence was needed"


async def test_bridges_that_are_replaced_one_by_one_under_load_leave_nothing_in_doubt(
    replicas: Replicas, full: bool
) -> None:
    """M20, as far as there is one version: SIGTERM with POSTs in hand while requests come, then a new process."""
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
    await replicas.over(count)
    await replicas.judge(count)
    assert await replicas.in_doubt() == 0
    print(f"replaced: {9 if full else 1} of 3 bridges, {count} requests, nothing in doubt")


async def test_a_database_that_fails_under_load_costs_nothing(
    replicas: Replicas, postgres: PostgresServer, seed: int, full: bool
) -> None:
    """M12: backends killed, restarts, crashes, no connection left, a lock that is held too long."""
    faults: list[Callable[[Replicas], Awaitable[None]]] = [_cut, _restart, _crash, _exhaust, _lock]
    times, each = (8, 50) if full else (1, 40)
    wanted = faults * times
    random.Random(seed).shuffle(wanted)
    print(f"seed {seed}")
    await replicas.start(3)
    producing = []
    for number, fault in enumerate(wanted):
        producing.append(asyncio.create_task(publish(replicas.amqp, requests(each, start=number * each))))
        await eventually(lambda: _under_way(replicas), "load")
        await fault(replicas)
    await asyncio.gather(*producing)
    count = len(wanted) * each
    await replicas.over(count)
    results = await replicas.judge(count)
    in_doubt = await replicas.in_doubt()
    print(
        f"database: {len(wanted)} faults, {count} requests, in doubt {in_doubt}, copies of events {results.duplicates}"
    )
    assert [daemon.log_events()["started"] for daemon in replicas.all] == [1, 1, 1]


async def test_copies_by_both_doors_of_three_bridges_make_one_run_each(
    replicas: Replicas, seed: int, full: bool
) -> None:
    """M18: every message up to five times, and every call at all three bridges at the same moment."""
    count = 1000 if full else 40
    dice = random.Random(seed)
    print(f"seed {seed}")
    await replicas.start(3)
    messages, calls = requests(count), requests(count, start=count)
    copies = [one for one in messages for _ in range(dice.randint(0, 4))]
    dice.shuffle(copies)
    await asyncio.gather(
        publish(replicas.amqp, messages),
        publish(replicas.amqp, copies),
        *(_call_all(replicas, calls[start::8]) for start in range(8)),
    )
    await replicas.over(2 * count)
    await replicas.judge(2 * count)
    assert await replicas.in_doubt() == 0
    print(f"copies: {2 * count} requests, {len(copies)} more messages and {2 * count} more calls")


async def _call_all(replicas: Replicas, wanted: list[dict[str, object]]) -> None:
    """One request after the other, each at all bridges at once under the same key: they name the same run."""

    async def call(session: aiohttp.ClientSession, bridge: Daemon, request: dict[str, object]) -> str:
        headers = {"Idempotency-Key": str(request["inputs"])}
        async with session.post(f"{bridge.url}/v1/runs", json=request, headers=headers) as response:
            assert response.status == 202, await response.text()
            return str((await response.json())["run_id"])

    async with aiohttp.ClientSession() as session:
        for request in wanted:
            runs = await asyncio.gather(*(call(session, bridge, request) for bridge in replicas.all))
            assert len(set(runs)) == 1


async def _sleep(replicas: Replicas, sleepers: list[Daemon], first: int) -> int:
    """Stop each when it has POSTs in hand, wake all when the others have given them up; how many requests that took."""
    all_stopped = asyncio.Event()
    producing = asyncio.create_task(_produce(replicas, first, all_stopped))
    try:
        await asyncio.gather(*(_stop(replicas, sleeper) for sleeper in sleepers))
        all_stopped.set()
        await asyncio.sleep(2 * OWNERSHIP)
        for sleeper in sleepers:
            await eventually(partial(replicas.given_up, sleeper), "the sleeper is given up")
    finally:
        all_stopped.set()
        for sleeper in sleepers:
            sleeper.send(signal.SIGCONT)
    return await producing


async def _produce(replicas: Replicas, first: int, enough: asyncio.Event) -> int:
    """Publish requests until there are enough, so that every bridge gets some; how many those were."""
    count = 0
    while not enough.is_set():
        await publish(replicas.amqp, requests(20, start=first + count))
        count += 20
    return count


async def _stop(replicas: Replicas, sleeper: Daemon) -> None:
    await eventually(lambda: replicas.posting(sleeper, 2), "it has POSTs in hand")
    sleeper.send(signal.SIGSTOP)


async def _beats_until_it_owns_nothing(replicas: Replicas, victim: Daemon, other: Daemon) -> int:
    """How often the other one gives a sign of life meanwhile."""
    seen = set[float]()

    async def met() -> bool:
        seen.add(await replicas.beat_of(other.pid))
        return await replicas.owned_by(victim.pid) == 0

    await eventually(met, "taken over")
    return len(seen) - 1


async def _under_way(replicas: Replicas) -> bool:
    [(found,)] = await replicas.ask("SELECT count(*) FROM runs WHERE state IN ('starting', 'running')")
    return bool(found >= 3)


async def _connections_ended(replicas: Replicas) -> bool:
    return await asyncio.to_thread(replicas.server.end_connections, replicas.database) > 0


async def _cut(replicas: Replicas) -> None:
    """Three times, so that also what has just been opened again is hit."""
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
    """No connection is left for three seconds, while the bridges have to connect anew."""
    url = replicas.server.url("postgres")
    async with AsyncExitStack() as held:
        await asyncio.to_thread(replicas.server.end_connections, replicas.database)
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                await held.enter_async_context(await psycopg.AsyncConnection.connect(url))
        await asyncio.sleep(3)


async def _lock(replicas: Replicas) -> None:
    """Longer than the store waits for a lock."""
    url = replicas.server.url(replicas.database)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("LOCK TABLE runs IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(6)


def _seconds(times: list[float]) -> str:
    return f"{min(times):.1f} to {max(times):.1f}"
