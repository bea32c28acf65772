"""Operations endpoints: liveness, readiness, metrics, documents. No token is required, so they reveal no secret."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import structlog
from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from bridge.adapters.http.body import respond
from bridge.core.readiness import Readiness, readiness
from bridge.observability.store_gauges import StoreGauges
from bridge.ports.lifecycle import Health, HealthCheck

CHECK_TIMEOUT = 2.0  # seconds; shorter than the timeouts of common probes

log = structlog.get_logger()


class OpsApi:
    """Health, metrics, and documents.

    `draining` returns whether the process accepts no new work, `stalled` whether its event loop is blocked. `documents`
    contains `openapi` and `asyncapi`. `check_timeout` is in seconds.
    """

    def __init__(
        self,
        checks: Mapping[str, HealthCheck],
        draining: Callable[[], bool],
        gauges: StoreGauges,
        registry: CollectorRegistry,
        stalled: Callable[[], bool],
        documents: Mapping[str, Any],
        check_timeout: float = CHECK_TIMEOUT,
    ) -> None:
        self._checks = checks
        self._stalled = stalled
        self._documents = documents
        self._draining = draining
        self._registry = registry
        self._gauges = gauges
        self._check_timeout = check_timeout

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/healthz", self._alive),
            web.get("/readyz", self._ready),
            web.get("/metrics", self._metrics),
            web.get("/openapi.json", self._openapi),
            web.get("/asyncapi.json", self._asyncapi),
        ]

    async def _alive(self, _request: web.Request) -> web.Response:
        stalled = self._stalled()
        return respond({"status": "stalled" if stalled else "alive"}, 503 if stalled else 200)

    async def _ready(self, _request: web.Request) -> web.Response:
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
            async with asyncio.timeout(self._check_timeout):
                return await check()
        except TimeoutError:
            return Health(ok=False, detail="no response in time")
        except Exception:  # a broken check must not hide the results of the others
            log.warning("health_check_failed", part=name, exc_info=True)
            return Health(ok=False, detail="the check failed; see the log")

    async def _openapi(self, _request: web.Request) -> web.Response:
        return respond(self._documents["openapi"])

    async def _asyncapi(self, _request: web.Request) -> web.Response:
        return respond(self._documents["asyncapi"])

    async def _metrics(self, _request: web.Request) -> web.Response:
        await self._gauges.refresh()
        return web.Response(body=generate_latest(self._registry), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST})
