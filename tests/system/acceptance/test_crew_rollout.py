"""Two real bridges on one PostgreSQL, of which only one has a crew, as during the rollout of a new crew."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.postgres import PostgresServer
from tests.system.acceptance.harness import Daemon, eventually, ledger
from tests.system.acceptance.replicas import new_database

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
async def crew_url() -> AsyncIterator[str]:
    """A crew whose runs take long."""
    async with running(SandboxSettings(run_time=parse_run_time("fixed:25"), inputs=("n",))) as url:
        yield url


@pytest.mark.nightly
async def test_a_bridge_does_not_claim_runs_of_a_crew_that_only_another_one_has(
    tmp_path: Path, crew_url: str, postgres: PostgresServer
) -> None:
    """It claimed them when the other one died and kept them, and nothing reported it."""
    database = new_database(postgres)
    store = {"url": postgres.url(database)}
    crew = {"url": crew_url, "token": "sandbox-token", "poll": {"min_interval": "300ms", "max_interval": "300ms"}}
    old = Daemon(tmp_path / "old", crew_url, store=store)
    new = Daemon(tmp_path / "new", crew_url, store=store, crews={"research": crew, "writers": crew})

    async def shown() -> dict[str, Any]:
        _, run = await old.get(f"/v1/runs/{run_id}")
        assert isinstance(run, dict)
        return run

    async def is_running() -> bool:
        return bool((await shown())["state"] == "running")

    async def waits_for_its_crew() -> bool:
        return bool(((await shown())["waiting"] or {}).get("reason") == "crew_not_configured")

    async def has_succeeded() -> bool:
        return bool((await shown())["state"] == "succeeded")

    try:
        await old.start()
        await new.start()
        async with aiohttp.ClientSession() as session:
            request = {"crew": "writers", "inputs": {"n": 1}}
            async with session.post(f"{old.url}/v1/runs", json=request) as response:
                assert response.status == 202  # for the other bridge
                run_id = (await response.json())["run_id"]
        await eventually(is_running, "the run is started by the bridge that has the crew")
        await new.kill()
        await eventually(waits_for_its_crew, "the run waits for its crew")
        _, ready = await old.get("/readyz")
        assert (ready["status"], ready["parts"]["crews"]["ok"]) == ("degraded", False)
        assert "writers" in ready["parts"]["crews"]["detail"]
        assert postgres.execute("SELECT owner FROM runs", database=database) == [(None,)]
        await new.start()
        await eventually(has_succeeded, "the run is tracked to its end")
        _, ready = await old.get("/readyz")
        assert ready["status"] == "ready"
    finally:
        await old.close()
        await new.close()
    assert len((await ledger(crew_url))["kickoffs"]) == 1
