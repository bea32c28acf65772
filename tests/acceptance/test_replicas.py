"""Several real bridges on one PostgreSQL and one crew: killed, paused, limited together, and with the database away."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.acceptance.harness import Daemon, drain, eventually, ledger, posts_per_request, publish
from tests.acceptance.test_promises import requests
from tests.postgres import PostgresServer, running_postgres

pytestmark = pytest.mark.timeout(180)

_numbers = count(1)
Note = Callable[[str, object], None]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


class Replicas:
    """Bridges with the same settings."""

    def __init__(self, folder: Path, crew_url: str, store_url: str, **settings: Any) -> None:
        self._folder, self._crew_url = folder, crew_url
        self._settings = {"store": {"url": store_url}} | settings
        self.all: list[Daemon] = []

    async def start(self, number: int = 1) -> None:
        new: list[Daemon] = []
        for _ in range(number):
            folder = self._folder / f"replica-{len(self.all) + len(new)}"
            folder.mkdir()
            new.append(Daemon(folder, self._crew_url, **self._settings))
        await asyncio.gather(*(daemon.start() for daemon in new))
        self.all += new

    async def over(self, expected: int, within: float) -> None:
        """Return when so many runs have ended, as any of those that answer sees it."""

        async def met() -> bool:
            for daemon in self.all:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with asyncio.timeout(2):
                        return await daemon.count("succeeded", "failed", "in_doubt") >= expected
            return False

        await eventually(met, within, f"{expected} runs are over")

    async def close(self) -> None:
        await asyncio.gather(*(daemon.close() for daemon in self.all))


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    name = f"replicas_{next(_numbers)}"
    postgres.execute(f"CREATE DATABASE {name}")
    return name


@pytest.fixture
async def replicas(
    tmp_path: Path, crew_url: str, amqp: str, postgres: PostgresServer, database: str
) -> AsyncIterator[Replicas]:
    """None running yet."""
    bridges = Replicas(tmp_path, crew_url, postgres.url(database), amqp={"url": amqp})
    yield bridges
    await bridges.close()


def once_each(expected: int) -> dict[str, int]:
    return dict.fromkeys((str(number) for number in range(expected)), 1)


async def test_three_bridges_share_the_work_and_do_nothing_twice(
    replicas: Replicas, amqp: str, crew_url: str, postgres: PostgresServer, database: str, record_property: Note
) -> None:
    await replicas.start(3)
    await asyncio.gather(publish(amqp, requests(500)), publish(amqp, requests(500, start=500)))
    await replicas.over(1000, 60)
    results = await drain(amqp, 1000, 30)

    assert posts_per_request(await ledger(crew_url)) == once_each(1000)
    assert all(types == ["run.succeeded"] for types in results.final_events().values())
    assert len(results.final_events()) == 1000
    assert results.duplicates == 0
    shares = [daemon.log_events()["run_ended"] for daemon in replicas.all]
    record_property("runs_ended_by_each", shares)
    assert min(shares) > 0


async def test_what_a_killed_bridge_followed_is_taken_over_within_15_seconds(
    tmp_path: Path, amqp: str, postgres: PostgresServer, database: str, record_property: Note
) -> None:
    async with running(SandboxSettings(run_time=parse_run_time("fixed:20"), inputs=("n",))) as crew_url:
        replicas = Replicas(tmp_path, crew_url, postgres.url(database), amqp={"url": amqp})
        try:
            await replicas.start(2)
            await publish(amqp, requests(120))
            await eventually(lambda: _running(replicas.all[0], 120), 30, "all are running")
            victim = _owner_names(postgres, database)
            assert len(victim) == 2
            await replicas.all[0].kill()
            killed = time.monotonic()
            survivor = replicas.all.pop()
            replicas.all = [survivor]
            await eventually(lambda: _owned_by_one(postgres, database, 120), 15, "all have a living owner")
            record_property("taken_over_after_s", round(time.monotonic() - killed, 1))
            await replicas.over(120, 60)
            results = await drain(amqp, 120, 30)
            posts = posts_per_request(await ledger(crew_url))
        finally:
            await replicas.close()
    assert posts == once_each(120)
    assert len(results.final_events()) == 120


async def test_a_new_bridge_takes_its_share_of_runs_that_are_under_way(
    tmp_path: Path, amqp: str, postgres: PostgresServer, database: str, record_property: Note
) -> None:
    async with running(SandboxSettings(run_time=parse_run_time("fixed:60"), inputs=("n",))) as crew_url:
        crew = {"url": crew_url, "token": "sandbox-token", "max_running": 400, "requests_per_second": 500}
        store = postgres.url(database)
        replicas = Replicas(tmp_path, crew_url, store, amqp={"url": amqp}, crews={"research": crew})
        try:
            await replicas.start()
            await publish(amqp, requests(300))
            await eventually(lambda: _running(replicas.all[0], 300), 30, "all are running")
            await replicas.start(2)
            joined = time.monotonic()
            await eventually(lambda: _even(postgres, database, 3, 100), 20, "each follows about a third")
            record_property("even_after_s", round(time.monotonic() - joined, 1))
            record_property("runs_followed_by_each", _owners(postgres, database))
        finally:
            await replicas.close()
        assert posts_per_request(await ledger(crew_url)) == once_each(300)


async def test_a_bridge_that_was_paused_for_long_finds_out_and_posts_nothing_twice(
    tmp_path: Path, amqp: str, postgres: PostgresServer, database: str, record_property: Note
) -> None:
    """It is stopped with claimed runs and POSTs in hand, until the others have taken over what it owned."""
    slow = SandboxSettings(run_time=parse_run_time("uniform:0.5:2"), inputs=("n",), kickoff_delay=0.3)
    async with running(slow) as crew_url:
        replicas = Replicas(tmp_path, crew_url, postgres.url(database), amqp={"url": amqp})
        try:
            await replicas.start(3)
            producing = asyncio.create_task(publish(amqp, requests(600)))
            sleeper = replicas.all[0]
            await eventually(lambda: _posting(postgres, database, sleeper, 5), 30, "it has POSTs in hand")
            sleeper.send(signal.SIGSTOP)
            try:
                await eventually(lambda: _living(postgres, database, 2), 60, "the sleeper was given up")
            finally:
                sleeper.send(signal.SIGCONT)
            await eventually(lambda: _living(postgres, database, 3), 60, "it has joined again")
            await producing
            await replicas.over(600, 60)
            posts = posts_per_request(await ledger(crew_url))
            in_doubt = await sleeper.count("in_doubt")
            results = await drain(amqp, 600 - in_doubt, 30)
            fenced = await sleeper.metric("kickoff_bridge_stale_writes_total")
        finally:
            await replicas.close()
    assert max(posts.values()) == 1
    assert len(results.final_events()) == 600 - in_doubt
    assert fenced > 0, "the fence was needed"
    assert sleeper.log_events()["rejoined"] == 1
    record_property("refused_writes", fenced)
    record_property("settled_by_late_answers", sleeper.log_events()["doubt_settled_by_late_answer"])
    record_property("in_doubt", in_doubt)


async def test_max_running_holds_for_all_bridges_together(
    tmp_path: Path, amqp: str, postgres: PostgresServer, database: str
) -> None:
    async with running(SandboxSettings(run_time=parse_run_time("uniform:0.1:0.4"), inputs=("n",))) as crew_url:
        crew = {
            "url": crew_url,
            "token": "sandbox-token",
            "max_running": 8,
            "requests_per_second": 2000,
            "poll": {"min": "100ms", "max": "100ms"},
        }
        store = postgres.url(database)
        replicas = Replicas(tmp_path, crew_url, store, amqp={"url": amqp}, crews={"research": crew})
        try:
            await replicas.start(3)
            await publish(amqp, requests(200))
            await replicas.over(200, 60)
            found = await ledger(crew_url)
        finally:
            await replicas.close()
    assert posts_per_request(found) == once_each(200)
    assert 4 < most_at_once(found["kickoffs"]) <= 8


async def test_a_database_that_restarts_under_load_costs_nothing(
    replicas: Replicas, amqp: str, crew_url: str, postgres: PostgresServer, database: str, record_property: Note
) -> None:
    """Connections are cut three times, then the server restarts; nobody has to do anything."""
    await replicas.start(2)
    producing = asyncio.create_task(publish(amqp, requests(500)))
    for number in range(1, 4):
        await eventually(partial(_begun, replicas, number * 80), 30, "load")
        await asyncio.to_thread(postgres.end_connections, database)
    await asyncio.to_thread(postgres.stop)
    await asyncio.to_thread(postgres.start)
    await producing
    await replicas.over(500, 60)
    results = await drain(amqp, 500, 30)

    assert posts_per_request(await ledger(crew_url)) == once_each(500)
    assert len(results.final_events()) == 500
    assert all(len(bodies) == 1 for bodies in results.bodies.values())
    assert [daemon.log_events()["started"] for daemon in replicas.all] == [1, 1]
    record_property("repeated_events", results.duplicates)


def most_at_once(executions: Sequence[dict[str, Any]]) -> int:
    """The largest number of executions under way at one moment."""
    moments = sorted(
        [(entry["received_at"], 1) for entry in executions] + [(entry["ended_at"], -1) for entry in executions]
    )
    now = most = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


async def _running(daemon: Daemon, expected: int) -> bool:
    return await daemon.count("running", "succeeded") >= expected


async def _begun(replicas: Replicas, expected: int) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        return await replicas.all[0].count("starting", "running", "succeeded") >= expected
    return False


def _owners(postgres: PostgresServer, database: str) -> list[int]:
    query = "SELECT count(*) FROM runs WHERE state = 'running' AND owner IS NOT NULL GROUP BY owner"
    return [row[0] for row in postgres.execute(query, database=database)]


def _owner_names(postgres: PostgresServer, database: str) -> list[str]:
    query = "SELECT DISTINCT owner FROM runs WHERE state = 'running' AND owner IS NOT NULL"
    return [row[0] for row in postgres.execute(query, database=database)]


async def _owned_by_one(postgres: PostgresServer, database: str, expected: int) -> bool:
    return await asyncio.to_thread(_owners, postgres, database) == [expected]


async def _even(postgres: PostgresServer, database: str, processes: int, each: int) -> bool:
    owners = await asyncio.to_thread(_owners, postgres, database)
    return len(owners) == processes and max(owners) <= each + 20 and sum(owners) == each * processes


async def _posting(postgres: PostgresServer, database: str, bridge: Daemon, at_least: int) -> bool:
    """Whether this bridge has so many POSTs under way: what it writes of them after its sleep comes too late."""
    query = f"SELECT count(*) FROM runs WHERE state = 'starting' AND owner LIKE '%-{bridge.pid}-%'"
    [(found,)] = await asyncio.to_thread(postgres.execute, query, database=database)
    return bool(found >= at_least)


async def _living(postgres: PostgresServer, database: str, expected: int) -> bool:
    found = await asyncio.to_thread(postgres.execute, "SELECT count(*) FROM processes", database=database)
    return bool(found == [(expected,)])
