"""A long time under load with faults at random: memory, open files and runs must not creep (M19, in small)."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.broker import Broker
from tests.faults.conftest import SetScene
from tests.faults.harness import Scene, requests
from tests.faults.proxy import proxy_to

pytestmark = [
    pytest.mark.timeout(7200),
    pytest.mark.skipif("SOAK_MINUTES" not in os.environ, reason="takes as long as it is told to: make soak MINUTES=30"),
]

PER_SECOND = 20
MOST_GROWTH = 24 * 1024  # KiB between the first and the last third, on average


def memory_kib(pid: int) -> int:
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in fields if line.startswith("VmRSS:"))


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def test_memory_and_files_stay_flat_under_load_and_faults(scene: SetScene, node: Broker, amqp: str) -> None:
    seconds = float(os.environ["SOAK_MINUTES"]) * 60
    async with proxy_to("127.0.0.1", node.port) as link:
        through = amqp.replace(f":{node.port}/", f":{link.port}/")
        async with scene("M19", bridge_amqp=through) as now:
            await now.victim.start()
            loading = asyncio.create_task(load(now, seconds))
            measured: list[tuple[int, int]] = []
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                await asyncio.sleep(2.0)
                if now.dice.random() < 0.2:
                    now.tally.faults += link.cut()
                measured.append((memory_kib(now.victim.pid), open_files(now.victim.pid)))
            await loading
            await now.settle()

    third = len(measured) // 3
    first, last = measured[third // 2 : third], measured[-third // 2 :]
    growth = sum(kib for kib, _ in last) / len(last) - sum(kib for kib, _ in first) / len(first)
    print(f"memory {measured[third][0]} -> {measured[-1][0]} KiB, files {measured[third][1]} -> {measured[-1][1]}")
    assert growth < MOST_GROWTH
    assert max(files for _, files in last) <= max(files for _, files in first) + 20


async def load(now: Scene, seconds: float) -> None:
    began, sent = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        await now.publish(requests(PER_SECOND, start=sent))
        sent += PER_SECOND
        await asyncio.sleep(max(0.0, began + sent / PER_SECOND - time.monotonic()))
