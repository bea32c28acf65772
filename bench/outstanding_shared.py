"""Many running runs over several bridges on one PostgreSQL: time until all are owned, memory, statements when idle.

`python -m bench.outstanding_shared --runs 200000 --bridges 2`. The database is filled with runs without an owner whose
executions go on forever; then the bridges are started.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import uvloop

from bench.daemon import (
    bridge_process,
    cpu,
    cpu_of_tree,
    figures,
    fill,
    memory,
    process,
    responses,
    value,
    write_settings,
)
from tests.broker import free_ports
from tests.postgres import PostgresServer, running_postgres

MEASURED_SECONDS = 30  # seconds
TRACKED_STATES = 'kickoff_bridge_tracked_runs{crew="bench"}'
STATEMENTS = "SELECT sum(calls) FROM pg_stat_statements"
SHARES = "SELECT count(*) FROM runs WHERE state = 'running' AND owner IS NOT NULL GROUP BY owner"


async def main() -> None:
    options = _options()
    extension = {"shared_preload_libraries": "pg_stat_statements"}
    with tempfile.TemporaryDirectory() as name, running_postgres(**extension) as postgres:
        crew_port, *ports = free_ports(1 + options.bridges)
        crew = f"http://127.0.0.1:{crew_port}"
        postgres.execute("CREATE EXTENSION pg_stat_statements")
        postgres.execute("CREATE DATABASE bench")
        store = postgres.url("bench")
        of_crew = {"url": crew, "requests_per_second": options.polls_per_second, "poll": {"max_interval": "60s"}}
        settings = [write_settings(Path(name), port, {"bench": of_crew}, store={"url": store}) for port in ports]
        async with process("-m", "bench.crew", "--port", str(crew_port)), aiohttp.ClientSession() as http:
            await responses(http, f"{crew}/inputs")
            async with _bridges(http, ports, settings) as pids:
                idle = sum(memory(pid) for pid in pids)
            await fill(store, "bench", options.runs)
            began = time.time()
            async with _bridges(http, ports, settings) as pids:
                await _report(http, crew, postgres, pids, ports, options.runs, began, idle)


async def _report(
    http: aiohttp.ClientSession, crew: str, postgres: PostgresServer, pids: Sequence[int], ports: Sequence[int],
    runs: int, began: float, idle: int,
) -> None:  # fmt: skip
    bridges = [f"http://127.0.0.1:{port}" for port in ports]
    while sum([await value(http, bridge, TRACKED_STATES) for bridge in bridges]) < runs:  # noqa: ASYNC110 - others count
        await asyncio.sleep(0.2)
    print(f"start      all {runs} runs tracked {time.time() - began:.1f} s after the start of the processes")
    await asyncio.sleep(MEASURED_SECONDS)
    print(f"shares     {[row[0] for row in postgres.execute(SHARES, database='bench')]}")
    print(f"memory     {(sum(memory(pid) for pid in pids) - idle) / 1024 / runs:.2f} KiB per run")
    polls, [(calls,)] = (await figures(http, crew))["polls"], postgres.execute(STATEMENTS)
    busy, database = sum(map(cpu, pids)), cpu_of_tree(postgres.pid)
    await asyncio.sleep(MEASURED_SECONDS)
    observe_poll, [(called,)] = (await figures(http, crew))["polls"] - polls, postgres.execute(STATEMENTS)
    print(f"polls      {observe_poll / MEASURED_SECONDS:.0f} a second")
    print(f"statements {(called - calls) / MEASURED_SECONDS:.1f} a second")
    print(f"CPU        bridges {(sum(map(cpu, pids)) - busy) / MEASURED_SECONDS:.2f} cores", end=", ")
    print(f"PostgreSQL {(cpu_of_tree(postgres.pid) - database) / MEASURED_SECONDS:.3f} cores")


@asynccontextmanager
async def _bridges(
    http: aiohttp.ClientSession, ports: Sequence[int], settings: Sequence[Path]
) -> AsyncIterator[list[int]]:
    """As many processes as settings; returns their ids as soon as all respond."""
    async with AsyncExitStack() as stack:
        started = [await stack.enter_async_context(bridge_process(path)) for path in settings]
        for port in ports:
            await responses(http, f"http://127.0.0.1:{port}/healthz")
        yield [one.pid for one in started]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200_000)
    parser.add_argument("--bridges", type=int, default=2)
    parser.add_argument("--polls-per-second", type=float, default=1000.0)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
