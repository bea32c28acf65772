"""Many runs under way in one process: memory of each, CPU of a look beside a bare GET, writes, and how a restart goes.

`python -m bench.outstanding --runs 100000`. A store is filled with runs whose executions go on for ever, a daemon is
started on it with the stand-in crew of `bench.crew`, and watched from outside.
"""

import argparse
import asyncio
import contextlib
import sqlite3
import tempfile
import time
from pathlib import Path

import aiohttp
import uvloop
import yaml

from bench.daemon import answers, cpu, figures, fill, memory, peak, process, value
from bridge.steps.poll import TOGETHER
from tests.broker import free_ports

WATCHED = 30  # seconds
FOLLOWED = 'kickoff_bridge_followed_runs{crew="bench"}'


async def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        crew_port, bridge_port = free_ports(2)
        crew, bridge = f"http://127.0.0.1:{crew_port}", f"http://127.0.0.1:{bridge_port}"
        settings = _settings(folder, crew, bridge_port, options.looks_per_second)
        async with process("-m", "bench.crew", "--port", str(crew_port)), aiohttp.ClientSession() as http:
            await answers(http, f"{crew}/inputs")
            get = await _cpu_of_a_get(http, crew, options.looks_per_second)
            async with process("-m", "bridge", "run", "--config", str(settings)) as daemon:
                await value(http, bridge, FOLLOWED)
                await asyncio.sleep(2)
                idle = memory(daemon.pid)
            await fill(f"sqlite:///{folder}/bench.db", "bench", options.runs)
            began = time.time()
            async with process("-m", "bridge", "run", "--config", str(settings)) as daemon:
                await _report(http, crew, bridge, daemon.pid, folder, options.runs, began, idle, get)


async def _report(
    http: aiohttp.ClientSession, crew: str, bridge: str, pid: int, folder: Path, runs: int, began: float,
    idle: int, get: float,
) -> None:  # fmt: skip
    def each_run(used: int) -> float:
        return (used - idle) / 1024 / runs

    while await value(http, bridge, FOLLOWED) < runs:  # noqa: ASYNC110 - another process counts
        await asyncio.sleep(0.5)  # each question counts all runs of the store
    took, spent = time.time() - began, cpu(pid)
    print(f"restart        all {runs} runs followed {took:.1f} s after the start of the process, CPU {spent:.1f} s")
    print(f"memory         {each_run(memory(pid)):.2f} KiB per run, peak {each_run(peak(pid)):.2f}")
    written = _written(folder)
    looks, before, at = (await figures(http, crew))["looks"], cpu(pid), time.time()
    await asyncio.sleep(WATCHED)
    looked, spent = (await figures(http, crew))["looks"] - looks, cpu(pid) - before
    seconds = {int(second): count for second, count in (await figures(http, crew))["looks_by_second"].items()}
    first = [seconds.get(second, 0) for second in range(int(began), int(at) + WATCHED)]
    print(f"first looks    per second from the start on: {' '.join(map(str, first))}")
    each = spent * 1e6 / looked
    of_a_get = f"{each / get:.2f} times a bare GET at this pace ({get:.0f} µs)"
    print(f"looks          {looked / WATCHED:.0f} a second, {each:.0f} µs of CPU each: {of_a_get}")
    print(f"writes         {_written(folder) - written} rows of runs changed by {looked} looks")
    print(f"memory         {each_run(memory(pid)):.2f} KiB per run after these looks")


async def _cpu_of_a_get(http: aiohttp.ClientSession, crew: str, per_second: float, count: int = 10_000) -> float:
    """Microseconds of CPU of the plainest GET that the same client can do, over kept connections, at the same pace.

    At once as many as the bridge makes together; as fast as they can, they cost half as much, since the loop then finds
    many answers each time that it wakes up.
    """
    at_once = max(1, round(per_second * TOGETHER))

    async def get(number: int) -> None:
        async with http.get(f"{crew}/status/k-{number}") as response:
            await response.read()

    cpu, began, under_way = time.process_time(), time.perf_counter(), list[asyncio.Task[None]]()
    for done in range(0, count, at_once):
        under_way += [asyncio.create_task(get(number)) for number in range(done, done + at_once)]
        await asyncio.sleep(max(began + (done + at_once) / per_second - time.perf_counter(), 0))
    await asyncio.gather(*under_way)
    return (time.process_time() - cpu) * 1e6 / count


def _written(folder: Path) -> int:
    """Every write of a run raises its version."""
    with contextlib.closing(sqlite3.connect(folder / "bench.db")) as connection:
        return int(connection.execute("SELECT sum(version) FROM runs").fetchone()[0])


def _settings(folder: Path, crew: str, port: int, looks_per_second: float) -> Path:
    of_crew = {"url": crew, "token": "t", "max_running": 1_000_000, "requests_per_second": looks_per_second}
    settings = {
        "http": {"port": port},
        "store": {"url": f"sqlite:///{folder}/bench.db"},
        "log": {"level": "warning"},
        "crews": {"bench": of_crew | {"poll": {"max": "60s"}}},
    }
    path = folder / "bridge.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--looks-per-second", type=float, default=1000.0)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
