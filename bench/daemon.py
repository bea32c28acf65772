"""A daemon in a process of its own: its settings, a store filled with runs, and its figures from outside."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import uuid_utils
import yaml

from bridge.adapters.store import database, open_store
from bridge.core.runs import state_machine
from bridge.core.runs.model import Envelope, KickoffRequest, Run, State

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def separate_cores() -> int | None:
    """Keep this process, and those that it starts, off one core; return that core, None if there is only one."""
    if not hasattr(os, "sched_setaffinity") or len(cores := os.sched_getaffinity(0)) < 2:
        return None
    core = min(cores)
    os.sched_setaffinity(0, cores - {core})
    return core


@asynccontextmanager
async def process(
    *command: str, core: int | None = None, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process for the duration of the block, perhaps on one core; its output is discarded, its log shown."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        stdout=asyncio.subprocess.DEVNULL,
        env=os.environ | environment,
        preexec_fn=None if core is None else partial(os.sched_setaffinity, 0, {core}),
    )
    try:
        yield started
    finally:
        started.terminate()
        await started.wait()


def sandbox_process(port: int, run_time: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """The crew of the sandbox."""
    return process("-m", "bridge", "sandbox", "--port", str(port), "--run-time", run_time)


def bridge_process(settings: Path) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """The daemon."""
    return process("-m", "bridge", "run", "--config", str(settings))


def write_settings(folder: Path, port: int, crews: Mapping[str, dict[str, Any]], **sections: Any) -> Path:
    """The settings of a bridge; defaults: a SQLite store, and no limit that a crew could reach."""
    plenty = {"token": "sandbox-token", "max_running": 1_000_000, "requests_per_second": 100_000}
    usual = {
        "http": {"port": port},
        "store": {"url": f"sqlite:///{folder}/bench.db"},
        "log": {"level": "warning"},
        "crews": {name: plenty | crew for name, crew in crews.items()},
    }
    path = folder / f"bridge-{port}.yaml"
    path.write_text(yaml.safe_dump(usual | sections))
    return path


async def fill(store_url: str, crew: str, runs: int) -> None:
    """Running runs without an owner, as a killed process leaves them."""
    async with open_store(database(store_url), "filler", time.time()) as store:
        for start in range(0, runs, 250):
            await asyncio.gather(*(store.accept(_running(crew, n)) for n in range(start, min(start + 250, runs))))


def _running(crew: str, number: int) -> Run:
    now = time.time()
    request = KickoffRequest(crew, {"topic": f"what number {number} is about"}, idempotency_key=f"m-{number}")
    new = state_machine.accept(request, Envelope("queue/kickoff.requests"), str(uuid_utils.uuid7()), now)
    kickoff_id = str(uuid_utils.uuid4())
    return replace(
        new, state=State.RUNNING, due_at=None, attempt=1, sent_at=now, started_at=now, kickoff_id=kickoff_id, polls=1
    )


async def submit(http: aiohttp.ClientSession, bridge: str, crew: str, topic: str) -> str:
    """Send a request; return the run's id."""
    async with http.post(f"{bridge}/v1/runs", json={"crew": crew, "inputs": {"topic": topic}}) as response:
        response.raise_for_status()
        return str((await response.json())["run_id"])


async def ended(http: aiohttp.ClientSession, bridge: str, run_id: str) -> dict[str, Any]:
    """The run, as soon as it has ended."""
    while True:
        async with http.get(f"{bridge}/v1/runs/{run_id}") as response:
            run: dict[str, Any] = await response.json()
        if run["finished_at"] is not None:
            return run
        await asyncio.sleep(0.2)


def epoch(text: str) -> float:
    """A time of the bridge's API, in seconds."""
    return datetime.fromisoformat(text).timestamp()


async def value(http: aiohttp.ClientSession, bridge: str, name: str) -> float:
    """A figure from the bridge's metrics, as soon as it exists."""
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(f"{bridge}/metrics") as response:
                for line in (await response.text()).splitlines():
                    if line.startswith(f"{name} "):
                        return float(line.rpartition(" ")[2])
        await asyncio.sleep(0.05)


async def figures(http: aiohttp.ClientSession, crew: str) -> dict[str, Any]:
    async with http.get(f"{crew}/_figures") as response:
        figures: dict[str, Any] = await response.json(content_type=None)
        return figures


async def responses(http: aiohttp.ClientSession, url: str) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(url):
                return
        await asyncio.sleep(0.05)


def cpu(pid: int) -> float:
    """Seconds of user and system time."""
    parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(parts[11]) + int(parts[12])) / TICKS


def cpu_of_tree(pid: int) -> float:
    """The same for a process and all its children, including ended ones."""
    return sum(int(ticks) for pid in _tree(pid) for ticks in _stat(pid)[11:15]) / TICKS


def pin_tree(pid: int, core: int) -> None:
    """Keep a process and all its children on one core."""
    for each in _tree(pid):
        os.sched_setaffinity(each, {core})


def _tree(pid: int) -> list[int]:
    with contextlib.suppress(OSError):  # it has ended meanwhile
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(below for child in children for below in _tree(int(child)))]
    return []


def _stat(pid: int) -> list[str]:
    """The fields after the name; none for a process that has ended: its parent counts it then."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def peak(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024
