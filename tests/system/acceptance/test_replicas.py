"""Several real bridges on one PostgreSQL and one crew: fair shares of running runs, and common limits."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import PostgresServer
from tests.system.acceptance.harness import eventually, ledger, publish
from tests.system.acceptance.replicas import Replicas, replicas_of
from tests.system.acceptance.test_promises import requests

pytestmark = pytest.mark.nightly  # component/steps/test_replicas and the simulation prove the same below the daemon
Note = Callable[[str, object], None]


async def test_a_new_bridge_takes_its_share_of_running_runs(
    tmp_path: Path, amqp: str, postgres: PostgresServer, record_property: Note
) -> None:
    limits: dict[str, Any] = {"max_running": 400, "requests_per_second": 500}
    async with replicas_of(tmp_path, amqp, postgres, "fixed:3600", crew=limits) as replicas:
        await replicas.start()
        await publish(amqp, requests(300))
        await eventually(lambda: _running(replicas, 300), "all are running")
        await replicas.start(2)
        joined = time.monotonic()
        await eventually(lambda: _even(replicas, 3, 100), "each tracks about a third")
        record_property("even_after_s", round(time.monotonic() - joined, 1))
        record_property("runs_followed_by_each", await replicas.owned())
        posts = (await ledger(replicas.crew_url))["kickoffs"]
    assert len(posts) == 300


async def test_max_running_applies_to_all_bridges_together(tmp_path: Path, amqp: str, postgres: PostgresServer) -> None:
    limits: dict[str, Any] = {
        "max_running": 8,
        "requests_per_second": 2000,
        "poll": {"min_interval": "100ms", "max_interval": "100ms"},
    }
    async with replicas_of(tmp_path, amqp, postgres, "uniform:0.1:0.4", crew=limits) as replicas:
        await replicas.start(3)
        await publish(amqp, requests(200))
        await replicas.all_ended(200)
        await replicas.judge(200)
        found = await ledger(replicas.crew_url)
    assert 4 < most_at_once(found["kickoffs"]) <= 8


def most_at_once(executions: Sequence[dict[str, Any]]) -> int:
    """The largest number of concurrent executions."""
    moments = sorted(
        [(entry["received_at"], 1) for entry in executions] + [(entry["ended_at"], -1) for entry in executions]
    )
    now = most = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


async def _running(replicas: Replicas, expected: int) -> bool:
    return await replicas.all[0].count("running", "succeeded") >= expected


async def _even(replicas: Replicas, processes: int, each: int) -> bool:
    owned = await replicas.owned()
    return len(owned) == processes and max(owned) <= each + 20 and sum(owned) == each * processes
