"""A daemon in a process of its own, what it shows from outside, and a store full of runs for it to begin with."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import uuid_utils

from bridge.adapters.store import open_store
from bridge.core import lifecycle
from bridge.core.model import Envelope, KickoffRequest, Run, State

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python that runs so long."""
    started = await asyncio.create_subprocess_exec(sys.executable, *command)
    try:
        yield started
    finally:
        started.terminate()
        await started.wait()


async def fill(store_url: str, crew: str, runs: int) -> None:
    """Runs under way that nobody owns, as a process leaves them that was killed."""
    async with open_store(store_url, "filler", time.time()) as store:
        for start in range(0, runs, 250):
            await asyncio.gather(*(store.accept(_running(crew, n)) for n in range(start, min(start + 250, runs))))


def _running(crew: str, number: int) -> Run:
    now = time.time()
    request = KickoffRequest(crew, {"topic": f"what number {number} is about"}, idempotency_key=f"m-{number}")
    new = lifecycle.accept(request, Envelope("queue/kickoff.requests"), str(uuid_utils.uuid7()), now)
    kickoff_id = str(uuid_utils.uuid4())
    return replace(
        new, state=State.RUNNING, due_at=None, attempt=1, sent_at=now, started_at=now, kickoff_id=kickoff_id, polls=1
    )


async def value(http: aiohttp.ClientSession, bridge: str, name: str) -> float:
    """A figure from the bridge's metrics, as soon as there is one."""
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


async def answers(http: aiohttp.ClientSession, url: str) -> None:
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
    """The same of a process and all that it started, also of what has ended."""
    return sum(int(ticks) for pid in _tree(pid) for ticks in _stat(pid)[11:15]) / TICKS


def _tree(pid: int) -> list[int]:
    with contextlib.suppress(OSError):  # it has ended meanwhile
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *(below for child in children for below in _tree(int(child)))]
    return []


def _stat(pid: int) -> list[str]:
    """The fields behind the name, none of a process that has ended meanwhile: its parent counts it then."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def memory(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def peak(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024
