"""A long time under load with faults at random: memory, open files, tasks and runs must not creep (M19, in small)."""

import asyncio
import os
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.broker import Broker
from tests.system.faults.conftest import SetScene
from tests.system.faults.harness import Scene, requests
from tests.system.faults.proxy import Proxy, proxy_to

pytestmark = [
    pytest.mark.timeout(7200),
    pytest.mark.skipif("SOAK_MINUTES" not in os.environ, reason="takes as long as it is told to: make soak MINUTES=30"),
]

PER_SECOND = 20
EVERY = 5.0  # seconds between two measurements
MOST_GROWTH = 24.0  # MiB between the middle third and the last one, on average

Fault = Callable[[], Awaitable[None]]


class Measured(NamedTuple):
    """What the process holds at one moment."""

    second: float
    mib: float
    files: int
    tasks: int


async def test_memory_files_and_tasks_stay_flat_under_load_and_faults(scene: SetScene, node: Broker, amqp: str) -> None:
    seconds = float(os.environ["SOAK_MINUTES"]) * 60
    async with proxy_to("127.0.0.1", node.port) as link:
        through = amqp.replace(f":{node.port}/", f":{link.port}/")
        async with scene("M19", bridge_amqp=through) as now:
            await now.victim.start()
            pid = now.victim.pid
            before = await measure(now, time.monotonic())
            until = time.monotonic() + seconds
            loading, spoiling = (
                asyncio.create_task(load(now, until)),
                asyncio.create_task(spoil(now, node, link, until)),
            )
            measured = await measure(now, until)
            await asyncio.gather(loading, spoiling)
            print(dict(spoiling.result()))
            await now.apply()
            at_rest = await measure(now, time.monotonic())
            assert now.victim.pid == pid, "it has lived through all of it"

    judge(before, measured, at_rest)


async def load(now: Scene, until: float) -> None:
    began, sent = time.monotonic(), 0
    while time.monotonic() < until:
        await now.publish(requests(PER_SECOND, start=sent))
        sent += PER_SECOND
        await asyncio.sleep(max(0.0, began + sent / PER_SECOND - time.monotonic()))


async def measure(now: Scene, until: float) -> list[Measured]:
    """At least one measurement."""
    began, pid, measured = time.monotonic(), now.victim.pid, list[Measured]()
    while not measured or time.monotonic() < until:
        memory, files = memory_mib(pid), open_files(pid)
        measured.append(Measured(time.monotonic() - began, memory, files, await now.victim.tasks()))
        await asyncio.sleep(EVERY)
    return measured


async def spoil(now: Scene, node: Broker, link: Proxy, until: float) -> Counter[str]:
    """Something at random every ten to twenty seconds; gives back how often each was done."""
    faults: dict[str, Fault] = {
        "connections to the broker reset": partial(cut, now, link),
        "link to the broker silent": partial(silence, now, link),
        "broker killed": partial(kill_broker, node),
        "receiver of callbacks down": partial(take_receiver_down, now),
        "store locked": partial(lock_store, now),
    }
    done: Counter[str] = Counter()
    while time.monotonic() < until - 20:
        await asyncio.sleep(now.dice.uniform(10.0, 20.0))
        name = now.dice.choice(sorted(faults))
        await faults[name]()
        done[name] += 1
        now.tally.faults += 1
    return done


async def cut(now: Scene, link: Proxy) -> None:
    for _ in range(now.dice.randint(1, 5)):
        link.cut()
        await asyncio.sleep(0.5)


async def silence(now: Scene, link: Proxy) -> None:
    link.go_silent()
    await asyncio.sleep(now.dice.choice([2.0, 40.0]))  # forgiven, and noticed
    link.speak_again()


async def kill_broker(node: Broker) -> None:
    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(node.start)


async def take_receiver_down(now: Scene) -> None:
    now.receiver.down = True
    await asyncio.sleep(3.0)  # less than the second attempt waits
    now.receiver.down = False


async def lock_store(now: Scene) -> None:
    with closing(sqlite3.connect(now.victim.store, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(6.5)  # longer than SQLite itself waits
        other.execute("ROLLBACK")


def judge(before: list[Measured], measured: list[Measured], at_rest: list[Measured]) -> None:
    """Print what was seen, and compare what came after the first third, in which caches fill."""
    third = len(measured) // 3
    middle, last = measured[third : 2 * third], measured[2 * third :]
    slope = statistics.linear_regression(
        [one.second for one in middle + last], [one.mib for one in middle + last]
    ).slope
    parts = {"before": before, "first third": measured[:third], "middle": middle, "last": last, "after": at_rest}
    for name, part in parts.items():
        print(
            f"{name}: memory {mean(part, 'mib'):.1f} MiB, files {mean(part, 'files'):.0f} "
            f"(at most {max(one.files for one in part)}), tasks {mean(part, 'tasks'):.0f} "
            f"(at most {max(one.tasks for one in part)})"
        )
    print(f"memory slope after the first third: {slope * 3600:+.1f} MiB an hour")
    assert mean(last, "mib") - mean(middle, "mib") < MOST_GROWTH
    assert mean(last, "files") <= mean(middle, "files") + 20
    assert mean(last, "tasks") <= mean(middle, "tasks") + 20
    assert at_rest[-1].tasks <= before[-1].tasks + 10


def mean(part: list[Measured], name: str) -> float:
    return statistics.fmean(getattr(one, name) for one in part)


def memory_mib(pid: int) -> float:
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in fields if line.startswith("VmRSS:")) / 1024


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
