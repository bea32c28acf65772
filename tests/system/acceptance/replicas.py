"""Several real bridges with the same settings on one PostgreSQL, and queries of that database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.patience import patience_with
from tests.postgres import PostgresServer
from tests.system.acceptance.harness import Daemon, Results, drain, eventually, ledger, posts_per_request

_numbers = count(1)


def new_database(server: PostgresServer) -> str:
    """Create a database; return its name."""
    name = f"replicas_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {name}")
    return name


class Replicas:
    """Bridges on one database; the crew is a sandbox."""

    def __init__(self, folder: Path, crew_url: str, amqp: str, server: PostgresServer, **settings: Any) -> None:
        self.crew_url, self.amqp, self.server = crew_url, amqp, server
        self.database = new_database(server)
        self._folder = folder
        self._settings = {"store": {"url": server.url(self.database)}, "amqp": {"url": amqp}} | settings
        self.all: list[Daemon] = []

    async def start(self, count: int = 1, kind: type[Daemon] = Daemon) -> None:
        new: list[Daemon] = []
        for number in range(len(self.all), len(self.all) + count):
            folder = self._folder / f"{self.database}-{number}"
            new.append(kind(folder, self.crew_url, **self._settings))
        self.all += new
        await asyncio.gather(*(self.start_again(daemon) for daemon in new))

    async def start_again(self, bridge: Daemon) -> None:
        """Start one of them, on a machine that may be busy."""
        await bridge.spawn()
        await eventually(bridge.is_ready, "the bridge is ready")

    async def close(self) -> None:
        await asyncio.gather(*(daemon.close() for daemon in self.all))

    async def all_ended(self, expected: int) -> None:
        """Return when this many runs have ended or are in doubt, according to any replica that responds."""

        async def met() -> bool:
            for daemon in self.all:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with asyncio.timeout(10):  # a suspended one
                        return await daemon.count("succeeded", "failed", "in_doubt") >= expected
            return False

        await eventually(met, f"{expected} runs are over", patience_with(expected))

    async def judge(self, expected: int) -> Results:
        """Every request is one run with at most one POST and one final event, or is in doubt."""
        states = dict(await self.query("SELECT state, count(*) FROM runs GROUP BY state"))
        in_doubt = states.get("in_doubt", 0)
        results = await drain(self.amqp, expected - in_doubt)
        posts = posts_per_request(await ledger(self.crew_url))
        assert sum(states.values()) == expected, states
        assert set(states) <= {"succeeded", "in_doubt"}, states
        assert max(posts.values()) == 1
        assert len(posts) >= expected - in_doubt
        assert [types for types in results.final_events().values() if types != ["run.succeeded"]] == []
        assert len(results.final_events()) == expected - in_doubt
        assert all(len(bodies) == 1 for bodies in results.bodies.values())
        return results

    async def in_doubt(self) -> int:
        [(found,)] = await self.query("SELECT count(*) FROM runs WHERE state = 'in_doubt'")
        return int(found)

    async def living(self, expected: int) -> bool:
        return await self.query("SELECT count(*) FROM processes") == [(expected,)]

    async def given_up(self, bridge: Daemon) -> bool:
        return await self.query(f"SELECT count(*) FROM processes WHERE name LIKE '%-{bridge.pid}-%'") == [(0,)]

    async def owned(self) -> list[int]:
        """The number of running runs per owner."""
        query = "SELECT count(*) FROM runs WHERE state = 'running' AND owner IS NOT NULL GROUP BY owner"
        return [row[0] for row in await self.query(query)]

    async def owned_by(self, pid: int) -> int:
        """The number of runs of the process with this id, in any state."""
        [(found,)] = await self.query(f"SELECT count(*) FROM runs WHERE owner LIKE '%-{pid}-%'")
        return int(found)

    async def heartbeat_of(self, pid: int) -> float:
        """The time of the last heartbeat of the process with this id, by its own clock."""
        [(at,)] = await self.query(f"SELECT heartbeat_at FROM processes WHERE name LIKE '%-{pid}-%'")
        return float(at)

    async def posting(self, bridge: Daemon, at_least: int) -> bool:
        """Whether it has this many POSTs in flight: it will write their results too late after a suspension."""
        query = f"SELECT count(*) FROM runs WHERE state = 'starting' AND owner LIKE '%-{bridge.pid}-%'"
        [(found,)] = await self.query(query)
        return bool(found >= at_least)

    async def query(self, query: str) -> list[Any]:
        return await asyncio.to_thread(self.server.execute, query, database=self.database)


@asynccontextmanager
async def replicas_of(
    folder: Path,
    amqp: str,
    server: PostgresServer,
    run_time: str,
    kickoff_delay: float = 0.0,
    *,
    crew: Mapping[str, Any],
) -> AsyncIterator[Replicas]:
    """None of them started; `run_time` in the format of the sandbox, `crew`: settings of the crew."""
    sandbox = SandboxSettings(run_time=parse_run_time(run_time), inputs=("n",), kickoff_delay=kickoff_delay)
    async with running(sandbox) as crew_url:
        settings = {"crews": {"research": {"url": crew_url, "token": "sandbox-token", **crew}}}
        replicas = Replicas(folder, crew_url, amqp, server, **settings)
        try:
            yield replicas
        finally:
            await replicas.close()
