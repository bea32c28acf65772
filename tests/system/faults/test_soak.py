"""A long time under load with random faults:

memory, open files, tasks, and runs must not grow (M19, at a small scale).
"""

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
from tests.system.faults.conftest import OpenScenario
from tests.system.faults.harness import Scenario, requests
from tests.system.faults.proxy import Proxy, proxy_to

PER_SECOND = 20
EVERY = 5.0  # seconds between two measurements
MOST_GROWTH = 24.0  # MiB between the middle third and the last one, on average
WARM_UP = 200  # requests before the first measurement, which open everything that stays open
AT_REST = 45.0  # seconds; in the second half, no idle connection is kept any more
UNNOTICED = 2000  # requests per task or file that may remain: half of the leak that must be found, one in 1,000

Fault = Callable[[], Awaitable[None]]


class Measured(NamedTuple):
    """The resources of the process at one moment."""

    second: float
    mib: float
    files: int
    tasks: int


@pytest.mark.timeout(7200)
@pytest.mark.skipif("SOAK_MINUTES" not in os.environ, reason="takes as long as configured: make soak MINUTES=30")
async def test_memory_files_and_tasks_stay_flat_under_load_and_faults(
    open_scenario: OpenScenario, node: Broker, amqp: str
) -> None:
    seconds = float(os.environ["SOAK_MINUTES"]) * 60
    async with proxy_to("127.0.0.1", node.port) as link:
        through = amqp.replace(f":{node.port}/", f":{link.port}/")
        async with open_scenario("M19", bridge_amqp=through) as scenario:
            await scenario.daemon.start()
            pid = scenario.daemon.pid
            await scenario.publish(requests(WARM_UP))
            await scenario.come_to_rest()
            before = await measure(scenario, time.monotonic() + AT_REST)
            until = time.monotonic() + seconds
            loading, spoiling = (
                asyncio.create_task(load(scenario, until)),
                asyncio.create_task(inject_faults(scenario, node, link, until)),
            )
            measured = await measure(scenario, until)
            await asyncio.gather(loading, spoiling)
            print(dict(spoiling.result()))
            await scenario.apply()
            at_rest = await measure(scenario, time.monotonic() + AT_REST)
            assert scenario.daemon.pid == pid, "the daemon has survived all of it"

    judge(before, measured, at_rest, scenario.tally.requests - WARM_UP)


def at_rest_with(tasks: int, files: int = 40) -> list[Measured]:
    """Measurements after the load: idle connections first, then periodic work."""
    return [Measured(0.0, 100.0, files + more, tasks + more) for more in (60, 50, 60, 0, -3, 0, 12, 0)]


def test_a_leak_of_one_task_in_a_thousand_requests_is_found():
    assert leaked(at_rest_with(75), at_rest_with(75 + 36), 36_000) == ["tasks: 75 at rest before, 111 after"]
    assert leaked(at_rest_with(75), at_rest_with(75 + 3), 3_000) == ["tasks: 75 at rest before, 78 after"]


def test_a_leak_of_one_file_in_a_thousand_requests_is_found():
    assert leaked(at_rest_with(75), at_rest_with(75, 76), 36_000) == ["files: 40 at rest before, 76 after"]


def test_remaining_resources_without_a_leak_are_accepted():
    assert leaked(at_rest_with(75), at_rest_with(77), 1_000) == []
    assert leaked(at_rest_with(75), at_rest_with(70), 36_000) == []


async def load(scenario: Scenario, until: float) -> None:
    began, sent = time.monotonic(), 0
    while time.monotonic() < until:
        await scenario.publish(requests(PER_SECOND, start=WARM_UP + sent))
        sent += PER_SECOND
        await asyncio.sleep(max(0.0, began + sent / PER_SECOND - time.monotonic()))


async def measure(scenario: Scenario, until: float) -> list[Measured]:
    """At least one measurement."""
    began, pid, measured = time.monotonic(), scenario.daemon.pid, list[Measured]()
    while not measured or time.monotonic() < until:
        memory, files = memory_mib(pid), open_files(pid)
        measured.append(Measured(time.monotonic() - began, memory, files, await scenario.daemon.tasks()))
        await asyncio.sleep(EVERY)
    return measured


async def inject_faults(scenario: Scenario, node: Broker, link: Proxy, until: float) -> Counter[str]:
    """A random fault every ten to twenty seconds; return how often each occurred."""
    faults: dict[str, Fault] = {
        "connections to the broker reset": partial(cut, scenario, link),
        "link to the broker silent": partial(silence, scenario, link),
        "broker killed": partial(kill_broker, node),
        "receiver of callbacks down": partial(take_receiver_down, scenario),
        "store locked": partial(lock_store, scenario),
    }
    done: Counter[str] = Counter()
    while time.monotonic() < until - 20:
        await asyncio.sleep(scenario.rng.uniform(10.0, 20.0))
        name = scenario.rng.choice(sorted(faults))
        await faults[name]()
        done[name] += 1
        scenario.tally.faults += 1
    return done


async def cut(scenario: Scenario, link: Proxy) -> None:
    for _ in range(scenario.rng.randint(1, 5)):
        link.cut()
        await asyncio.sleep(0.5)


async def silence(scenario: Scenario, link: Proxy) -> None:
    link.go_silent()
    await asyncio.sleep(scenario.rng.choice([2.0, 40.0]))  # tolerated, and noticed
    link.speak_again()


async def kill_broker(node: Broker) -> None:
    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(node.start)


async def take_receiver_down(scenario: Scenario) -> None:
    scenario.receiver.down = True
    await asyncio.sleep(3.0)  # less than the delay of the second attempt
    scenario.receiver.down = False


async def lock_store(scenario: Scenario) -> None:
    with closing(sqlite3.connect(scenario.daemon.store, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(6.5)  # longer than SQLite itself waits
        other.execute("ROLLBACK")


def judge(before: list[Measured], measured: list[Measured], at_rest: list[Measured], sent: int) -> None:
    """Print the measurements; compare memory after the first third, in which caches fill, and what remains at rest."""
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
    assert leaked(before, at_rest, sent) == []


def leaked(before: list[Measured], after: list[Measured], sent: int) -> list[str]:
    """What remains after this many requests when nothing is left to do:

    the number of tasks under load is meaningless.
    """
    found = []
    for name, opened_once in (("files", 10), ("tasks", 2)):
        at_first, at_last = (
            statistics.median_low(getattr(one, name) for one in part[len(part) // 2 :]) for part in (before, after)
        )
        if at_last - at_first > max(opened_once, sent // UNNOTICED):
            found.append(f"{name}: {at_first} at rest before, {at_last} after")
    return found


def mean(part: list[Measured], name: str) -> float:
    return statistics.fmean(getattr(one, name) for one in part)


def memory_mib(pid: int) -> float:
    fields = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in fields if line.startswith("VmRSS:")) / 1024


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
