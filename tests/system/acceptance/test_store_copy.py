"""Copying a store with running runs from SQLite to PostgreSQL, and continuing there: `RUNS=50000` for many."""

import asyncio
import os
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from bench.daemon import figures, fill, process
from tests.broker import free_ports
from tests.patience import patience_with
from tests.postgres import PostgresServer
from tests.system.acceptance.harness import Daemon, drain, eventually
from tests.system.acceptance.replicas import new_database

pytestmark = pytest.mark.timeout(3600)

RUNS = int(os.environ.get("RUNS") or 400)


async def test_running_runs_are_copied_to_postgresql_and_end_there(
    tmp_path: Path, amqp: str, postgres: PostgresServer
) -> None:
    """All of them end, each once, and nothing is started again."""
    old = f"sqlite:///{tmp_path}/bridge.db"
    await fill(old, "research", RUNS)
    (port,) = free_ports(1)
    crew = f"http://127.0.0.1:{port}"
    database = new_database(postgres)
    new = postgres.url(database)
    took = await _copy(old, new)
    settings = {"max_running": 1_000_000, "requests_per_second": 1000}
    bridge = Daemon(tmp_path / "bridge", crew, settings, store={"url": new}, amqp={"url": amqp})
    try:
        async with process("-m", "bench.crew", "--port", str(port), "--takes-any"), aiohttp.ClientSession() as http:
            await bridge.spawn()
            await eventually(bridge.is_ready, "the bridge is ready")
            began = time.monotonic()
            await eventually(lambda: _ended(bridge), "all have ended", patience_with(RUNS))
            results = await drain(amqp, RUNS)
            ended, started = time.monotonic() - began, (await figures(http, crew))["started"]
    finally:
        await bridge.close()
    finals = results.final_events()
    print(f"copied {RUNS} running runs in {took:.0f} s; all ended {ended:.0f} s later, copies {results.duplicates}")
    assert started == {}, "none was POSTed again"
    assert len(finals) == RUNS
    assert [types for types in finals.values() if types != ["run.succeeded"]] == []


async def _copy(old: str, new: str) -> float:
    """Copy the store; return the seconds it took."""
    began = time.monotonic()
    copying = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "store", "copy", "--from", old, "--to", new, stderr=asyncio.subprocess.DEVNULL
    )
    assert await copying.wait() == 0
    return time.monotonic() - began


async def _ended(bridge: Daemon) -> bool:
    return await bridge.count("succeeded") == RUNS
