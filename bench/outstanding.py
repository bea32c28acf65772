"""Many running runs in one process: memory per run, CPU per poll compared with a bare GET, writes, and a restart.

`python -m bench.outstanding --runs 100000`. A store is filled with runs whose executions go on forever; a daemon is
started on it with the crew of `bench.crew`, and measured from outside.
"""

import argparse
import asyncio
import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvloop

from bench.daemon import bridge_process, cpu, figures, fill, memory, peak, process, responses, value, write_settings
from bridge.steps.runs.poll import BATCH_WINDOW
from tests.broker import free_ports

MEASURED_SECONDS = 30  # seconds
TRACKED_STATES = 'kickoff_bridge_tracked_runs{crew="bench"}'


@dataclass(frozen=True)
class Seen:
    """A daemon at one moment; `memory` and `peak` in bytes, `cpu` in seconds, `polls` so far.

    `versions` is the sum over all runs: every write of a run increments its version.
    """

    at: float
    cpu: float
    memory: int
    peak: int
    polls: int
    versions: int


@dataclass(frozen=True)
class Restart:
    """A process without runs, and one started at `began` with very many, when it tracks all and later."""

    idle: int
    began: float
    tracked_runs: Seen
    later: Seen
    polls_by_second: Sequence[int]


async def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        crew_port, bridge_port = free_ports(2)
        crew, bridge = f"http://127.0.0.1:{crew_port}", f"http://127.0.0.1:{bridge_port}"
        of_crew = {"url": crew, "requests_per_second": options.polls_per_second, "poll": {"max_interval": "60s"}}
        settings = write_settings(folder, bridge_port, {"bench": of_crew})
        async with process("-m", "bench.crew", "--port", str(crew_port)), aiohttp.ClientSession() as http:
            await responses(http, f"{crew}/inputs")
            get = await _cpu_of_a_get(http, crew, options.polls_per_second)
            async with bridge_process(settings) as daemon:
                await value(http, bridge, TRACKED_STATES)
                await asyncio.sleep(2)
                idle = memory(daemon.pid)
            await fill(f"sqlite:///{folder}/bench.db", "bench", options.runs)
            began = time.time()
            async with bridge_process(settings) as daemon:
                while await value(http, bridge, TRACKED_STATES) < options.runs:  # noqa: ASYNC110 - another process counts
                    await asyncio.sleep(0.5)  # each query counts all runs of the store
                tracked_runs = await _see(http, crew, folder, daemon.pid)
                await asyncio.sleep(MEASURED_SECONDS)
                later = await _see(http, crew, folder, daemon.pid)
            polls_by_second = await _polls_by_second(http, crew, began, later.at)
    _print(options.runs, get, Restart(idle, began, tracked_runs, later, polls_by_second))


async def _see(http: aiohttp.ClientSession, crew: str, folder: Path, pid: int) -> Seen:
    polls = (await figures(http, crew))["polls"]
    return Seen(time.time(), cpu(pid), memory(pid), peak(pid), polls, _versions(folder))


async def _polls_by_second(http: aiohttp.ClientSession, crew: str, began: float, until: float) -> Sequence[int]:
    seconds = {int(second): count for second, count in (await figures(http, crew))["polls_by_second"].items()}
    return [seconds.get(second, 0) for second in range(int(began), int(until))]


def _print(runs: int, get: float, restart: Restart) -> None:
    def each_run(used: int) -> float:
        return (used - restart.idle) / 1024 / runs

    tracked_runs, later = restart.tracked_runs, restart.later
    took, polls = tracked_runs.at - restart.began, later.polls - tracked_runs.polls
    print(
        f"restart        all {runs} runs tracked {took:.1f} s after the process started, CPU {tracked_runs.cpu:.1f} s"
    )
    print(f"memory         {each_run(tracked_runs.memory):.2f} KiB per run, peak {each_run(tracked_runs.peak):.2f}")
    print(f"first polls    per second from the start on: {' '.join(map(str, restart.polls_by_second))}")
    each = (later.cpu - tracked_runs.cpu) * 1e6 / polls
    of_a_get = f"{each / get:.2f} times a bare GET at this rate ({get:.0f} µs)"
    print(f"polls          {polls / (later.at - tracked_runs.at):.0f} a second, {each:.0f} µs of CPU each: {of_a_get}")
    print(f"writes         {later.versions - tracked_runs.versions} rows of runs changed by {polls} polls")
    print(f"memory         {each_run(later.memory):.2f} KiB per run after these polls")


async def _cpu_of_a_get(http: aiohttp.ClientSession, crew: str, per_second: float, count: int = 10_000) -> float:
    """Microseconds of CPU of the simplest GET with the same client, over kept connections, at the same rate.

    As many in parallel as the bridge makes; at full speed they cost half as much, because the loop then finds several
    responses each time that it wakes up.
    """
    at_once = max(1, round(per_second * BATCH_WINDOW))

    async def get(number: int) -> None:
        async with http.get(f"{crew}/status/k-{number}") as response:
            await response.read()

    cpu, began, under_way = time.process_time(), time.perf_counter(), list[asyncio.Task[None]]()
    for done in range(0, count, at_once):
        under_way += [asyncio.create_task(get(number)) for number in range(done, done + at_once)]
        await asyncio.sleep(max(began + (done + at_once) / per_second - time.perf_counter(), 0))
    await asyncio.gather(*under_way)
    return (time.process_time() - cpu) * 1e6 / count


def _versions(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "bench.db")) as connection:
        return int(connection.execute("SELECT sum(version) FROM runs").fetchone()[0])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--polls-per-second", type=float, default=1000.0)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
