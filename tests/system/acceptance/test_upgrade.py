"""Bridges of an earlier commit and of this one, side by side on one database under load."""

import asyncio
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.postgres import PostgresServer
from tests.system.acceptance.harness import Daemon, bind_results, eventually, publish
from tests.system.acceptance.replicas import Replicas, replicas_of
from tests.system.acceptance.test_promises import requests

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

BEFORE = "9ba3fd0202cf5d27a36abc1ac318d8dca8524e32"
"""The commit of the earlier version; move it forward with each release."""
BATCH = 10  # requests
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the earlier version."""
    archived = subprocess.run(["git", "-C", str(ROOT), "archive", BEFORE, "bridge"], check=False, capture_output=True)
    if archived.returncode != 0:
        pytest.skip(f"the history does not contain {BEFORE[:8]} (a shallow clone?)")
    folder = tmp_path_factory.mktemp("earlier")
    (folder / "archive.tar").write_bytes(archived.stdout)
    with tarfile.open(folder / "archive.tar") as archive:
        archive.extractall(folder, filter="data")
    program = [sys.executable, "-c", "import bridge; print(bridge.__file__)"]
    found = subprocess.run(program, cwd=folder, check=True, capture_output=True, text=True).stdout
    assert Path(found).is_relative_to(folder)
    return folder


def of_version(tree: Path) -> type[Daemon]:
    """A daemon whose code is that of a folder, because Python looks into the current folder first."""

    class OfVersion(Daemon):
        def command(self) -> list[str]:
            return ["env", "-C", str(tree), *super().command()]

    return OfVersion


@asynccontextmanager
async def load(amqp: str) -> AsyncIterator[list[int]]:
    """Publish requests until the end of the block; the list contains the sizes of the batches."""
    batches, stopped = list[int](), asyncio.Event()

    async def publish_all() -> None:
        for batch in count():
            await publish(amqp, requests(BATCH, batch * BATCH))
            batches.append(BATCH)
            if stopped.is_set():
                return

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publish_all())
        yield batches
        stopped.set()


async def works(replicas: Replicas, bridge: Daemon) -> None:
    """Return once the bridge has taken part in the work."""

    async def met() -> bool:
        return bridge.log_events()["kickoff_answered"] > 0 and await replicas.owned_by(bridge.pid) > 0

    await eventually(met, "the bridge starts and tracks runs")


async def test_bridges_of_two_versions_share_the_work_and_replace_each_other(
    tmp_path: Path, amqp: str, postgres: PostgresServer, earlier: Path
) -> None:
    """First old ones, then old and new ones, an old one that joins new ones, and at the end only new ones."""
    old, new = of_version(earlier), of_version(ROOT)
    crew = {"max_running": 400, "requests_per_second": 2000, "poll": {"min_interval": "300ms", "max_interval": "300ms"}}
    async with replicas_of(tmp_path, amqp, postgres, "uniform:0.5:2", crew=crew) as replicas:
        await replicas.start(2, old)
        await bind_results(amqp)
        async with load(amqp) as batches:
            await asyncio.gather(*(works(replicas, bridge) for bridge in replicas.all))
            await replicas.start(1, new)
            await works(replicas, replicas.all[2])
            assert await replicas.all[0].terminate() == 0
            await replicas.start(1, new)
            await replicas.start(1, old)
            await asyncio.gather(*(works(replicas, bridge) for bridge in replicas.all[3:]))
            for bridge in (replicas.all[1], replicas.all[4]):
                assert await bridge.terminate() == 0
        replicas.all = [replicas.all[2], replicas.all[3]]
        await replicas.all_ended(sum(batches))
        results = await replicas.judge(sum(batches))
        assert await replicas.in_doubt() == 0
    print(f"{sum(batches)} requests, {results.duplicates} copies of events")
