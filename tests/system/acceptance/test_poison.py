"""A stored item that triggers a bug: the process continues and reports it, and nothing is paid for twice."""

import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.adapters.amqp.values import ExactMessage
from tests.postgres import PostgresServer
from tests.system.acceptance.harness import DEAD, Daemon, channel, eventually, ledger
from tests.system.acceptance.replicas import new_database

BUGGY = """
import sys

from bridge.steps.runs import poll

observe = poll.observe


def buggy(tracked, *args):
    if tracked.crew == "poisoned":
        raise ZeroDivisionError("a bug")
    return observe(tracked, *args)


poll.observe = buggy
from bridge.cli import main

main()
"""


class Buggy(Daemon):
    """A daemon with a bug that affects every run of one crew; `fixed`: it is fixed at the next start."""

    buggy = True
    fixed = False

    def command(self) -> list[str]:
        usual = super().command()
        return usual if self.fixed else [sys.executable, "-c", BUGGY, *usual[3:]]

    async def submit(self, crew: str) -> str:
        async with aiohttp.ClientSession() as session:
            body = {"crew": crew, "inputs": {"n": crew}}
            async with session.post(f"{self.url}/v1/runs", json=body) as response:
                assert response.status == 202
                run_id: str = (await response.json())["run_id"]
                return run_id

    async def run(self, run_id: str) -> dict[str, Any]:
        _, run = await self.get(f"/v1/runs/{run_id}")
        found: dict[str, Any] = run
        return found

    async def ends(self, run_id: str) -> None:
        async def has_succeeded() -> bool:
            return bool((await self.run(run_id))["state"] == "succeeded")

        await eventually(has_succeeded, "the run has succeeded")

    async def is_deferred(self, run_id: str) -> None:
        async def deferred() -> bool:
            waiting = (await self.run(run_id))["waiting"]
            return waiting is not None and waiting["reason"] == "retry"

        await eventually(deferred, "the run says why it waits")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_run_with_a_bug_costs_no_other_run_and_survives_restarts(
    tmp_path: Path, crew_url: str, request: pytest.FixtureRequest, database: str
) -> None:
    crew = {"url": crew_url, "token": "sandbox-token", "poll": {"min_interval": "300ms", "max_interval": "300ms"}}
    settings: dict[str, Any] = {"crews": {"research": crew, "poisoned": crew}}
    if database == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        settings["store"] = {"url": server.url(new_database(server))}
    bridge = Buggy(tmp_path, crew_url, **settings)
    try:
        await bridge.start()
        poisoned = await bridge.submit("poisoned")
        await bridge.is_deferred(poisoned)
        await bridge.ends(await bridge.submit("research"))
        assert 'kickoff_bridge_quarantined_total{kind="run"} 0' not in (await bridge.get("/metrics"))[1]
        assert await bridge.terminate() == 0

        await bridge.start()
        await bridge.is_deferred(poisoned)
        await bridge.ends(await bridge.submit("research"))
        assert await bridge.terminate() == 0
        assert bridge.log_events()["item_quarantined"] >= 1

        bridge.fixed = True
        await bridge.start()
        await bridge.ends(poisoned)
        assert (await bridge.run(poisoned))["waiting"] is None
    finally:
        await bridge.close()
    assert len((await ledger(crew_url))["kickoffs"]) == 3


@pytest.mark.timeout(600)
async def test_a_refused_message_with_a_double_too_large_for_a_single(daemon: Daemon, amqp: str) -> None:
    """The publisher failed at every start, and on PostgreSQL took down all replicas in turn."""
    headers: dict[str, Any] = {"x-ratio": 1e300, "share": 0.1}
    async with channel(amqp) as ch:
        exchange = await ch.get_exchange("kickoff.requests")
        await exchange.publish(ExactMessage(b"no json", headers=headers, message_id="poison"), "research")

        async def dead() -> bool:
            return (await ch.declare_queue(DEAD, passive=True)).declaration_result.message_count == 1

        await eventually(dead, "the message is in the dead-letter queue")
        message = await (await ch.get_queue(DEAD, ensure=False)).get(no_ack=True)
    assert message is not None
    assert {name: message.headers[name] for name in headers} == headers
    assert await daemon.is_ready()
    assert daemon.log_events()["item_quarantined"] == 0
