"""Health, readiness, and metrics."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from bridge import __version__
from bridge.observability.metrics import Counters
from bridge.ports.lifecycle import Health
from tests.http_client import STORE_AWAY, Bridge, serving


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with serving(check_seconds=0.05) as served:
        yield served


async def metrics(bridge: Bridge) -> dict[tuple[str, ...], float]:
    response = await bridge.get("/metrics", None)
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=1.0.0")
    families = text_string_to_metric_families(await response.text())
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


async def test_liveness_does_not_depend_on_dependencies(bridge: Bridge) -> None:
    bridge.store.fail = STORE_AWAY
    bridge.draining = True
    response = await bridge.get("/healthz", None)
    assert (response.status, await response.json()) == (200, {"status": "alive"})


async def test_readiness_reports_every_dependency(bridge: Bridge) -> None:
    response = await bridge.get("/readyz", None)
    assert response.status == 200
    assert await response.json() == {
        "status": "ready",
        "draining": False,
        "parts": {"store": {"ok": True, "detail": "writable"}},
    }


async def test_an_unavailable_broker_degrades_and_keeps_http_traffic(bridge: Bridge) -> None:
    """HTTP is then the only entry that works; with 503 the probe of the manifest closed it in every replica."""

    async def unavailable() -> Health:
        return Health(ok=False, detail="no connection")

    bridge.checks["broker"] = unavailable
    response = await bridge.get("/readyz", None)
    assert response.status == 200
    document = await response.json()
    assert document["status"] == "degraded"
    assert document["parts"]["broker"] == {"ok": False, "detail": "no connection"}
    assert document["parts"]["store"]["ok"]


async def test_a_failed_check_reveals_no_host(bridge: Bridge) -> None:
    async def broken() -> Health:
        raise STORE_AWAY

    bridge.checks["store"] = broken
    response = await bridge.get("/readyz", None)
    assert response.status == 503
    document = await response.json()
    assert document["status"] == "unavailable"
    assert document["parts"]["store"] == {"ok": False, "detail": "the check failed; see the log"}


async def test_a_hanging_check_times_out(bridge: Bridge) -> None:
    async def hanging() -> Health:
        await asyncio.Event().wait()
        raise AssertionError

    bridge.checks["store"] = hanging
    response = await bridge.get("/readyz", None)
    assert response.status == 503
    assert (await response.json())["parts"]["store"] == {"ok": False, "detail": "no response in time"}


async def test_a_draining_bridge_is_not_ready(bridge: Bridge) -> None:
    """A load balancer sends new requests elsewhere while the pending ones are finished."""
    bridge.draining = True
    response = await bridge.get("/readyz", None)
    assert response.status == 503
    document = await response.json()
    assert (document["status"], document["draining"], document["parts"]["store"]["ok"]) == ("unavailable", True, True)


async def test_metrics_count_stored_rows(bridge: Bridge) -> None:
    found = await metrics(bridge)
    assert found["kickoff_bridge_runs", "research", "running"] == 3
    assert found["kickoff_bridge_oldest_run_seconds", "research", "running"] == 60
    assert found["kickoff_bridge_deliveries", "callback", "dead"] == 1
    assert found["kickoff_bridge_oldest_delivery_seconds", "callback", "dead"] == 7
    assert found["kickoff_bridge_budget_used_ratio", "research"] == 0.5


async def test_what_the_store_does_not_contain_is_0(bridge: Bridge) -> None:
    """A series that ends and begins again looks like an outage; a crew without a budget has no used part."""
    found = await metrics(bridge)
    assert found["kickoff_bridge_runs", "triage", "in_doubt"] == 0
    assert found["kickoff_bridge_oldest_run_seconds", "triage", "in_doubt"] == 0
    assert found["kickoff_bridge_deliveries", "exchange", "pending"] == 0
    assert found["kickoff_bridge_oldest_delivery_seconds", "exchange", "pending"] == 0
    assert ("kickoff_bridge_budget_used_ratio", "triage") not in found
    assert ("kickoff_bridge_runs", "research", "failed") not in found


def test_the_version_is_a_metric() -> None:
    shown = generate_latest(Counters(CollectorRegistry()).registry).decode()
    assert f'kickoff_bridge_build_info{{version="{__version__}"}} 1.0' in shown.splitlines()


async def test_the_store_is_counted_once_for_all_requests_within_seconds() -> None:
    """Counting reads an index of all runs, and callers of /metrics need no token."""
    async with serving(counts_kept=3600.0) as bridge:
        found = await asyncio.gather(*(metrics(bridge) for _ in range(20)))
    assert {one["kickoff_bridge_runs", "research", "running"] for one in found} == {3}
    assert bridge.store.counted == 1


async def test_counts_are_omitted_while_the_store_is_unavailable(bridge: Bridge) -> None:
    """Old numbers would look current; all other metrics are returned."""
    await metrics(bridge)
    bridge.store.fail = STORE_AWAY
    found = await metrics(bridge)
    assert found == {}
    bridge.store.fail = None
    assert ("kickoff_bridge_runs", "research", "running") in await metrics(bridge)
