"""Health, readiness and metrics."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge import __version__
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


async def test_alive_is_alive_whatever_else_is_not(bridge: Bridge) -> None:
    bridge.store.fail = STORE_AWAY
    bridge.draining = True
    response = await bridge.get("/healthz", None)
    assert (response.status, await response.json()) == (200, {"status": "alive"})


async def test_ready_tells_every_part(bridge: Bridge) -> None:
    response = await bridge.get("/readyz", None)
    assert response.status == 200
    assert await response.json() == {
        "status": "ready",
        "draining": False,
        "parts": {"store": {"ok": True, "detail": "writable"}},
    }


async def test_a_broker_that_is_unavailable_degrades_and_keeps_http_traffic(bridge: Bridge) -> None:
    """HTTP is then the one way in that still works; 503 made the manifest's probe close it in every replica."""

    async def away() -> Health:
        return Health(ok=False, detail="no connection")

    bridge.checks["broker"] = away
    response = await bridge.get("/readyz", None)
    assert response.status == 200
    told = await response.json()
    assert told["status"] == "degraded"
    assert told["parts"]["broker"] == {"ok": False, "detail": "no connection"}
    assert told["parts"]["store"]["ok"]


async def test_a_check_that_fails_tells_no_host(bridge: Bridge) -> None:
    async def broken() -> Health:
        raise STORE_AWAY

    bridge.checks["store"] = broken
    response = await bridge.get("/readyz", None)
    assert response.status == 503
    told = await response.json()
    assert told["status"] == "unavailable"
    assert told["parts"]["store"] == {"ok": False, "detail": "the check failed; see the log"}


async def test_a_check_that_hangs_is_given_up(bridge: Bridge) -> None:
    async def hanging() -> Health:
        await asyncio.Event().wait()
        raise AssertionError

    bridge.checks["store"] = hanging
    response = await bridge.get("/readyz", None)
    assert response.status == 503
    assert (await response.json())["parts"]["store"] == {"ok": False, "detail": "no response in time"}


async def test_draining_is_not_ready_although_every_part_is(bridge: Bridge) -> None:
    """A load balancer sends new requests elsewhere while the old ones are finished."""
    bridge.draining = True
    response = await bridge.get("/readyz", None)
    assert response.status == 503
    told = await response.json()
    assert (told["status"], told["draining"], told["parts"]["store"]["ok"]) == ("unavailable", True, True)


async def test_metrics_count_what_is_in_the_store(bridge: Bridge) -> None:
    found = await metrics(bridge)
    assert found["kickoff_bridge_runs", "running"] == 3
    assert found["kickoff_bridge_runs", "failed"] == 0
    assert found["kickoff_bridge_deliveries", "dead"] == 1
    assert found["kickoff_bridge_build_info", __version__] == 1


async def test_the_store_is_counted_once_for_all_who_ask_within_seconds() -> None:
    """Counting reads an index of every run, and whoever asks needs no token."""
    async with serving(counts_kept=3600.0) as bridge:
        found = await asyncio.gather(*(metrics(bridge) for _ in range(20)))
    assert {one["kickoff_bridge_runs", "running"] for one in found} == {3}
    assert bridge.store.counted == 1


async def test_counts_are_left_out_while_the_store_is_away(bridge: Bridge) -> None:
    """Old numbers would look like new ones; the rest is told all the same."""
    await metrics(bridge)
    bridge.store.fail = STORE_AWAY
    found = await metrics(bridge)
    assert list(found) == [("kickoff_bridge_build_info", __version__)]
    bridge.store.fail = None
    assert ("kickoff_bridge_runs", "running") in await metrics(bridge)
