"""The disk of the store: full, failing, locked, and a damaged file (M13)."""

import asyncio
import resource
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from tests.patience import PATIENCE
from tests.system.acceptance.harness import eventually
from tests.system.faults import disks
from tests.system.faults.conftest import OpenScenario
from tests.system.faults.disks import needs_mount
from tests.system.faults.harness import Scenario, requests

pytestmark = pytest.mark.timeout(600)

MEBIBYTE = 1024 * 1024
IN_HAND = 6.0  # duration of a POST in seconds: enough to fill the disk meanwhile


async def test_a_store_locked_for_ten_seconds_loses_nothing(open_scenario: OpenScenario, full: bool) -> None:
    """A backup holds the write lock: requests wait in RabbitMQ, no POST is sent, and everything continues by itself."""
    times = 5 if full else 1
    async with open_scenario("M13 locked") as scenario:
        await scenario.daemon.start()
        for number in range(times):
            with closing(sqlite3.connect(scenario.daemon.store, isolation_level=None, timeout=PATIENCE)) as other:
                other.execute("BEGIN EXCLUSIVE")
                scenario.tally.faults += 1
                before = await scenario.posts()
                await scenario.publish(requests(30, start=number * 30))
                await asyncio.sleep(10.0 if full else 6.5)  # longer than SQLite itself waits
                assert await scenario.posts() - before == 0, "a POST was sent that the store does not know"
                assert stored(other) == number * 30, "the lock had no effect"
                other.execute("ROLLBACK")
            await scenario.come_to_rest()
        await scenario.apply()

    assert scenario.tally.in_doubt == 0


async def test_a_failing_disk_ends_the_process_and_the_next_one_continues(
    open_scenario: OpenScenario, full: bool
) -> None:
    """Every write beyond a size fails with an I/O error.

    SQLite's later results cannot be trusted: the process restarts.
    """
    times = 5 if full else 1
    async with open_scenario("M13 I/O error") as scenario:
        for number in range(times):
            await scenario.daemon.start()
            resource.prlimit(scenario.daemon.pid, resource.RLIMIT_FSIZE, (2 * MEBIBYTE, 2 * MEBIBYTE))
            scenario.tally.faults += 1
            await scenario.publish(requests(300, start=number * 300))
            assert await scenario.daemon.ended() == 69, scenario.daemon.log_tail()
        await scenario.recover()
        await scenario.apply()

    assert scenario.tally.in_doubt == 0


async def test_a_damaged_store_is_refused_and_not_replaced(open_scenario: OpenScenario) -> None:
    """Exit code 74; an empty file in its place would forget paid executions."""
    async with open_scenario("M13 damaged") as scenario:
        await scenario.daemon.start()
        await scenario.publish(requests(20))
        await scenario.come_to_rest()
        await scenario.daemon.terminate()
        sound, damaged = damage(Path(scenario.daemon.store))
        scenario.tally.faults += 1

        await scenario.daemon.start(until_ready=False)
        code = await scenario.daemon.ended()
        left = replace(Path(scenario.daemon.store), sound)
        await scenario.recover()
        await scenario.apply()

    assert code == 74
    assert left == damaged


@needs_mount
async def test_a_full_disk_stops_everything_but_requests_in_progress(
    open_scenario: OpenScenario, tmp_path: Path, full: bool
) -> None:
    """No space at all: requests wait or receive 503, no POST is sent, and known execution ids survive a kill."""
    times = 5 if full else 1
    with disks.small_disk(tmp_path / "disk", 16) as disk:
        async with open_scenario("M13 no room, killed", kickoff_delay=IN_HAND, store=disk / "bridge.db") as scenario:
            await scenario.daemon.start()
            for number in range(times):
                before = await scenario.posts()
                await scenario.publish(requests(3, start=number * 10))
                await _posted(scenario, before + 3)
                with disks.full(Path(scenario.daemon.store)):
                    scenario.tally.faults += 1
                    await scenario.publish(requests(5, start=number * 10 + 3))
                    assert await submitted(scenario, number) == (503, True)
                    await eventually(
                        partial(_journaled, scenario, 3 * (number + 1)), "the ids are in the kickoff journal"
                    )
                    assert await scenario.posts() == before + 3, "a POST was sent that the store does not know"
                    await scenario.daemon.kill()
                await scenario.recover()
                await scenario.come_to_rest()
            await scenario.apply()

    assert scenario.tally.in_doubt == 0


@needs_mount
async def test_a_full_disk_is_a_transient_error(open_scenario: OpenScenario, tmp_path: Path, full: bool) -> None:
    """With space again, the same process continues."""
    times = 5 if full else 1
    with disks.small_disk(tmp_path / "disk", 16) as disk:
        async with open_scenario("M13 no room", store=disk / "bridge.db") as scenario:
            await scenario.daemon.start()
            for number in range(times):
                with disks.full(Path(scenario.daemon.store)):
                    scenario.tally.faults += 1
                    await scenario.publish(requests(20, start=number * 20))
                    assert await submitted(scenario, number) == (503, True)
                await scenario.come_to_rest()
            await scenario.apply()

    assert scenario.tally.in_doubt == 0
    assert scenario.tally.duplicates == 0


@needs_mount
async def test_a_disk_that_became_read_only_is_refused_at_the_start(
    open_scenario: OpenScenario, tmp_path: Path
) -> None:
    """Exit code 69 with a message, and no POST; when it is writable again, everything continues."""
    with disks.small_disk(tmp_path / "disk", 16) as disk:
        async with open_scenario("M13 read-only", store=disk / "bridge.db") as scenario:
            await scenario.daemon.start()
            await scenario.publish(requests(20))
            await scenario.daemon.kill()
            before = await scenario.posts()
            with disks.read_only(disk):
                scenario.tally.faults += 1
                await scenario.daemon.start(until_ready=False)
                code = await scenario.daemon.ended()
                last_words = scenario.daemon.log_tail()
                assert await scenario.posts() == before
            await scenario.recover()
            await scenario.apply()

    assert code == 69
    assert "Traceback" not in last_words
    assert "ead-only" in last_words or "readonly" in last_words


async def submitted(scenario: Scenario, number: int) -> tuple[int, bool]:
    """The status of one submission over HTTP, and whether the response has Retry-After."""
    headers = {"Idempotency-Key": f"late-{number}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{scenario.daemon.url}/v1/runs", json=requests(1)[0], headers=headers) as response,
    ):
        return response.status, "Retry-After" in response.headers


@pytest.mark.skipif(disks.may_mount(), reason="a disk that is really full is there to test with")
async def test_a_full_disk_keeps_every_kickoff_id_through_a_kill(open_scenario: OpenScenario, full: bool) -> None:
    """The POST has a response, the store is full, the process is killed: the kickoff journal has the execution."""
    times = 10 if full else 1
    async with open_scenario("M13 full, killed", kickoff_delay=IN_HAND) as scenario:
        for number in range(times):
            await scenario.daemon.start()
            before = await scenario.posts()
            await scenario.publish(requests(3, start=number * 3))
            await _posted(scenario, before + 3)
            with closing(sqlite3.connect(scenario.daemon.store, isolation_level=None, timeout=PATIENCE)) as other:
                other.execute("BEGIN EXCLUSIVE")  # for the bridge the same as a full disk: nothing is committed
                await eventually(partial(_journaled, scenario, 3 * (number + 1)), "the ids are in the kickoff journal")
                await scenario.daemon.kill()
                scenario.tally.faults += 1
                other.execute("ROLLBACK")
            await scenario.recover()
            await scenario.come_to_rest()
            await scenario.daemon.terminate()
        await scenario.recover()
        await scenario.apply()

    assert scenario.tally.in_doubt == 0


def stored(connection: sqlite3.Connection) -> int:
    number: int = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
    return number


def damage(store: Path) -> tuple[bytes, bytes]:
    """Overwrite all but the first page; return the content before and after."""
    sound = store.read_bytes()
    damaged = sound[:4096] + b"not a page" * ((len(sound) - 4096) // 10)
    store.write_bytes(damaged)
    return sound, damaged


def replace(store: Path, content: bytes) -> bytes:
    found = store.read_bytes()
    store.write_bytes(content)
    return found


async def _posted(scenario: Scenario, count: int) -> None:
    async def met() -> bool:
        return await scenario.posts() >= count

    await eventually(met, f"{count} POSTs have arrived")


async def _journaled(scenario: Scenario, count: int) -> bool:
    return scenario.daemon.log_events()["kickoff_id_journaled"] >= count
