"""One of two servers dies: the bridge continues with the other, and nothing is lost, repeated, or started twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.adapters.amqp.topology import Topology, ensure_inbound, ensure_outbound
from tests.broker import Broker
from tests.postgres import PostgresServer, Standby
from tests.system.acceptance.harness import (
    Daemon,
    bind_results,
    channel,
    drain,
    eventually,
    ledger,
    posts_per_request,
    publish,
)
from tests.system.acceptance.test_promises import requests

RUNS = 60


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    server = PostgresServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def standby(primary: PostgresServer) -> Iterator[Standby]:
    """A synchronous one, as docs/storage.md recommends: it has every confirmed write."""
    primary.execute("CREATE DATABASE store")
    server = Standby(primary)
    server.start()
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.execute("SELECT pg_reload_conf()")
    yield server
    server.remove()


@pytest.fixture
async def cluster() -> AsyncIterator[tuple[Broker, Broker]]:
    """Two nodes; the second one has the only replica of each queue, so that they outlive the first."""
    second = Broker()
    try:
        await asyncio.to_thread(second.start)
        await _declare(second)
        first = Broker(peer=second)
        try:
            await asyncio.to_thread(first.start)
            yield first, second
        finally:
            first.remove()
    finally:
        second.remove()


async def _declare(broker: Broker) -> None:
    async with channel(broker.url) as ch:
        await ensure_inbound(ch, Topology())
        await ensure_outbound(ch, Topology())
    await bind_results(broker.url)


async def _all_ended(bridge: Daemon, expected: int) -> None:
    async def met() -> bool:
        status, page = await bridge.get("/v1/runs?state=succeeded&limit=200")
        return bool(status == 200 and len(page["runs"]) >= expected)  # 503 until another server has taken over

    await eventually(met, f"{expected} runs have ended")


async def _judge(bridge: Daemon, amqp: str, crew_url: str) -> None:
    """Each request is one run with one POST and one final event."""
    await _all_ended(bridge, 2 * RUNS)
    results = await drain(amqp, 2 * RUNS)
    assert list(results.final_events().values()) == [["run.succeeded"]] * 2 * RUNS
    assert all(len(bodies) == 1 for bodies in results.bodies.values())
    posts = posts_per_request(await ledger(crew_url))
    assert (len(posts), max(posts.values())) == (2 * RUNS, 1)


@pytest.mark.nightly
async def test_the_standby_of_a_dead_database_takes_over(
    tmp_path: Path, crew_url: str, amqp: str, primary: PostgresServer, standby: PostgresServer
) -> None:
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    store = {"url": f"postgresql://bridge@{hosts}/store?target_session_attrs=read-write"}
    bridge = Daemon(tmp_path, crew_url, amqp={"url": amqp}, store=store)
    try:
        await bridge.start()
        await publish(amqp, requests(RUNS))
        await _all_ended(bridge, RUNS // 3)
        await asyncio.to_thread(primary.kill)
        await publish(amqp, requests(RUNS, RUNS))
        await asyncio.to_thread(standby.execute, "SELECT pg_promote()")
        await _judge(bridge, amqp, crew_url)
    finally:
        await bridge.close()


@pytest.mark.nightly
async def test_another_node_takes_over_from_a_dead_one(
    tmp_path: Path, crew_url: str, cluster: tuple[Broker, Broker]
) -> None:
    first, second = cluster
    settings: dict[str, Any] = {"url": [first.url, second.url]}
    bridge = Daemon(tmp_path, crew_url, amqp=settings)
    try:
        await bridge.start()
        assert "bridge" in await asyncio.to_thread(first.ctl, "list_connections", "client_properties")
        await publish(first.url, requests(RUNS))
        await _all_ended(bridge, RUNS // 3)
        await asyncio.to_thread(first.kill)
        await publish(second.url, requests(RUNS, RUNS), retry=True)
        await _judge(bridge, second.url, crew_url)
        await eventually(bridge.is_ready, "both connections are open")
    finally:
        await bridge.close()
