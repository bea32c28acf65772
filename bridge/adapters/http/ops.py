"""For operators' machines: alive, ready, metrics, documents; no token needed, so no host, secret or payload is told."""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import structlog
from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from bridge import __version__
from bridge.adapters.http.body import respond
from bridge.core.delivery.model import DeliveryState
from bridge.core.readiness import Readiness, readiness
from bridge.core.runs.model import State
from bridge.ports.lifecycle import Health, HealthCheck
from bridge.ports.store import Store

CHECK_SECONDS = 2.0  # shorter than the patience of those who probe
COUNTS_KEPT = 5.0  # seconds for which what was counted in the store is shown to all who ask

log = structlog.get_logger()


class OpsApi:
    """Health, metrics, documents.

    `draining` says that the process takes nothing new, `stalled` that its loop stands still; `documents` are `openapi`
    and `asyncapi`; `check_seconds` is what a check may take.
    """

    def __init__(
        self,
        checks: Mapping[str, HealthCheck],
        draining: Callable[[], bool],
        store: Store,
        registry: CollectorRegistry,
        stalled: Callable[[], bool],
        documents: Mapping[str, Any],
        check_seconds: float = CHECK_SECONDS,
        counts_kept: float = COUNTS_KEPT,
    ) -> None:
        self._checks = checks
        self._stalled = stalled
        self._documents = documents
        self._draining = draining
        self._registry = registry
        self._counts = _Counts(store, registry, check_seconds, counts_kept)
        self._check_seconds = check_seconds
        build = Gauge("kickoff_bridge_build_info", "Always 1; the label says which.", ["version"], registry=registry)
        build.labels(__version__).set(1)

    def routes(self) -> list[web.RouteDef]:
        """Every route."""
        return [
            web.get("/healthz", self._alive),
            web.get("/readyz", self._ready),
            web.get("/metrics", self._metrics),
            web.get("/openapi.json", self._openapi),
            web.get("/asyncapi.json", self._asyncapi),
        ]

    async def _alive(self, _http: web.Request) -> web.Response:
        stalled = self._stalled()
        return respond({"status": "stalled" if stalled else "alive"}, 503 if stalled else 200)

    async def _ready(self, _http: web.Request) -> web.Response:
        results = await asyncio.gather(*(self._check(name, check) for name, check in self._checks.items()))
        parts, draining = dict(zip(self._checks, results, strict=True)), self._draining()
        status = readiness({name: health.ok for name, health in parts.items()}, draining=draining)
        body = {
            "status": status,
            "draining": draining,
            "parts": {name: asdict(health) for name, health in parts.items()},
        }
        return respond(body, 503 if status is Readiness.UNAVAILABLE else 200)

    async def _check(self, name: str, check: HealthCheck) -> Health:
        try:
            async with asyncio.timeout(self._check_seconds):
                return await check()
        except TimeoutError:
            return Health(ok=False, detail="no answer in time")
        except Exception:  # a broken check must not hide what the others say
            log.warning("health_check_failed", part=name, exc_info=True)
            return Health(ok=False, detail="the check failed")

    async def _openapi(self, _http: web.Request) -> web.Response:
        return respond(self._documents["openapi"])

    async def _asyncapi(self, _http: web.Request) -> web.Response:
        return respond(self._documents["asyncapi"])

    async def _metrics(self, _http: web.Request) -> web.Response:
        await self._counts.refresh()
        return web.Response(body=generate_latest(self._registry), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})


class _Counts:
    """Gauges of what is in the store, counted once for all who ask within seconds; left out while it is unavailable."""

    def __init__(self, store: Store, registry: CollectorRegistry, seconds: float, kept: float) -> None:
        self._store = store
        self._seconds = seconds
        self._kept = kept
        self._counted_at = -math.inf
        self._counting = asyncio.Lock()
        runs = Gauge("kickoff_bridge_runs", "Runs in the store.", ["state"], registry=registry)
        deliveries = Gauge("kickoff_bridge_deliveries", "Deliveries in the store.", ["state"], registry=registry)
        self._gauges = {"runs": (runs, State), "deliveries": (deliveries, DeliveryState)}

    async def refresh(self) -> None:
        """Count again if it was long ago; a state without rows is 0, so that its series does not end."""
        clock = asyncio.get_running_loop().time
        async with self._counting:
            if clock() - self._counted_at >= self._kept:
                self._show(await self._count())
                self._counted_at = clock()

    def _show(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        for kind, (gauge, states) in self._gauges.items():
            gauge.clear()
            for state in states if counts else ():
                gauge.labels(state.value).set(counts.get(kind, {}).get(state.value, 0))

    async def _count(self) -> dict[str, dict[str, int]]:
        try:
            async with asyncio.timeout(self._seconds):
                return await self._store.counts()
        except Exception as error:  # noqa: BLE001  # the other metrics matter most when the store is broken
            log.debug("counts_unavailable", error=type(error).__name__)
            return {}
