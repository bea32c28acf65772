"""Reads beside callers that see none of many runs: 200,000 runs, and streams, lists, or metrics 20 times in parallel.

Prints the duration of reads of another client and of `/readyz` meanwhile. Takes about four minutes.
"""

import asyncio
import contextlib
import json
import sqlite3
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp

from bench import daemon
from tests.broker import free_ports

RUNS = 200_000
CALLERS = 20
SECONDS = 10.0
OWNER = "owner-token-of-this-bench"
OTHER_TOKEN = "token-of-the-other-client"
CREWS = {"research": {"url": "http://127.0.0.1:9"}}
CLIENTS = [
    {"name": "owner", "token": OWNER, "roles": ["submit", "read"]},
    {"name": "other", "token": OTHER_TOKEN, "roles": ["submit"]},
]

Load = Callable[[aiohttp.ClientSession, str, Counter[int]], Coroutine[None, None, None]]


def fill(store: Path, count: int = RUNS) -> None:
    """Ended runs of one client, with an event for each."""
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
    first = time.time() - 86_400
    runs = (
        "INSERT INTO runs (run_id, crew, state, version, source, fingerprint, priority, inputs, meta, accepted_at, "
        "finished_at, attempt, polls, auto_retries, in_doubt_emitted, unverified, result) SELECT "
        "printf('01920000-0000-7000-8000-%012d', i), 'research', 'succeeded', 1, 'client/owner', 'f', 0, "
        f"CAST('{{}}' AS BLOB), CAST('{{}}' AS BLOB), {first}, {first}, 1, 1, 0, 0, 0, CAST('a result' AS BLOB) FROM n"
    )
    events = (
        "INSERT INTO events (event_id, type, run_id, crew, headers, content_type, created_at, stored_at, body) "
        "SELECT printf('e-%012d', i), 'run.succeeded', printf('01920000-0000-7000-8000-%012d', i), 'research', "
        f"CAST('{{}}' AS BLOB), 'application/json', {first}, {first} + i * 0.1, zeroblob(1000) FROM n"
    )
    with closing(sqlite3.connect(store)) as connection, connection:
        for statement in (runs, events):
            connection.execute(numbers + statement)


async def nothing(_http: aiohttp.ClientSession, _url: str, _seen: Counter[int]) -> None:
    """Cause no load."""


async def stream(http: aiohttp.ClientSession, url: str, seen: Counter[int]) -> None:
    headers = {"Authorization": f"Bearer {OTHER_TOKEN}", "Last-Event-ID": "e-000000000001"}
    async with http.get(f"{url}/v1/events", headers=headers) as response:
        seen[response.status] += 1
        async for _ in response.content:
            pass


async def lists(http: aiohttp.ClientSession, url: str, seen: Counter[int]) -> None:
    while True:
        async with http.get(f"{url}/v1/runs?limit=200", headers={"Authorization": f"Bearer {OTHER_TOKEN}"}) as response:
            await response.read()
            seen[response.status] += 1


async def metrics(http: aiohttp.ClientSession, url: str, seen: Counter[int]) -> None:
    while True:
        async with http.get(f"{url}/metrics") as response:
            await response.read()
            seen[response.status] += 1


async def timed(http: aiohttp.ClientSession, url: str, took: list[float], seen: Counter[int]) -> None:
    """Repeat a request; one that is cut off at the end counts with the time it has taken."""
    while True:
        began = time.monotonic()
        try:
            async with http.get(url, headers={"Authorization": f"Bearer {OWNER}"}) as response:
                await response.read()
                seen[response.status] += 1
        finally:
            took.append(time.monotonic() - began)
        await asyncio.sleep(0.05)


def summary(took: list[float], seen: Counter[int]) -> str:
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(seen.items()))
    return f"median {statistics.median(took) * 1000:.0f} ms, longest {max(took) * 1000:.0f} ms ({statuses})"


async def measure(name: str, load: Load, url: str, warm: float) -> None:
    loaded, run, page, ready = Counter[int](), Counter[int](), Counter[int](), Counter[int]()
    took: dict[str, list[float]] = {"a run": [], "a list of 50": [], "/readyz": []}
    paths = ("/v1/runs/01920000-0000-7000-8000-000000100000", "/v1/runs?limit=50", "/readyz")
    async with session() as callers, session() as others:
        tasks = [asyncio.create_task(load(callers, url, loaded)) for _ in range(CALLERS)]
        await asyncio.sleep(warm)
        for path, times, seen in zip(paths, took.values(), (run, page, ready), strict=True):
            tasks.append(asyncio.create_task(timed(others, url + path, times, seen)))
        await asyncio.sleep(SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    print(f"{name}: {json.dumps(dict(loaded))}")
    for (what, times), seen in zip(took.items(), (run, page, ready), strict=True):
        print(f"    {what}: {summary(times, seen)}")


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as http:
        yield http


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        [port] = free_ports(1)
        url = f"http://127.0.0.1:{port}"
        http = {"port": port, "clients": CLIENTS}
        settings = daemon.write_settings(Path(name), port, CREWS, http=http, log={"level": "error"})
        async with daemon.bridge_process(settings), session() as asking:
            await daemon.responses(asking, f"{url}/healthz")
        fill(Path(name) / "bench.db")
        for case, load, warm in (
            ("no load", nothing, 2.0),
            ("streams of a client without runs, from the oldest event on", stream, 2.0),
            ("the same, two minutes later", stream, 130.0),
            ("lists by a client without runs", lists, 2.0),
            ("anonymous /metrics", metrics, 2.0),
        ):
            async with daemon.bridge_process(settings), session() as asking:
                await daemon.responses(asking, f"{url}/healthz")
                with contextlib.suppress(asyncio.CancelledError):
                    await measure(case, load, url, warm)


if __name__ == "__main__":
    asyncio.run(main())
