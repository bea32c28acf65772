"""Gauges over the store's content, computed once for all scrapers."""

import asyncio
import math
from collections.abc import Callable, Mapping

import structlog
from prometheus_client import CollectorRegistry, Gauge

from bridge.core.delivery.model import Channel, DeliveryState
from bridge.core.runs.budget import Budget
from bridge.core.runs.model import FINAL_STATES, State
from bridge.ports.lifecycle import Clock
from bridge.ports.queries import Backlog, Queries, StoreFigures

TIMEOUT = 2.0  # seconds for all queries
TTL = 5.0  # seconds for which the figures serve all scrapers

_RUN_STATES = [state.value for state in State if state not in FINAL_STATES]
_DELIVERY_STATES = [DeliveryState.PENDING.value, DeliveryState.DEAD.value]

log = structlog.get_logger()


class StoreGauges:
    """Gauges over the store, computed at most once per `ttl` seconds; absent while the store is unavailable.

    `crews` returns those configured, with their budgets; other crews appear while the store contains runs of them.
    """

    def __init__(
        self,
        store: Queries,
        registry: CollectorRegistry,
        crews: Callable[[], Mapping[str, Budget | None]],
        clock: Clock,
        timeout: float = TIMEOUT,
        ttl: float = TTL,
    ) -> None:
        self._store = store
        self._clock = clock
        self._timeout = timeout
        self._ttl = ttl
        self._latest: StoreFigures | None = None
        self._computed_at = -math.inf
        self._computing = asyncio.Lock()
        self._crews = crews
        self._no_deliveries = {
            (channel.value, state): Backlog(0, math.inf) for channel in Channel for state in _DELIVERY_STATES
        }
        self._runs = Gauge(
            "kickoff_bridge_runs", "Runs in the store that have not ended", ["crew", "state"], registry=registry
        )
        self._oldest_run = Gauge(
            "kickoff_bridge_oldest_run_seconds",
            "Age of the oldest run that has not ended, since its acceptance; 0 without one",
            ["crew", "state"],
            registry=registry,
        )
        self._deliveries = Gauge(
            "kickoff_bridge_deliveries",
            "Deliveries in the store that are not confirmed",
            ["channel", "state"],
            registry=registry,
        )
        self._oldest_delivery = Gauge(
            "kickoff_bridge_oldest_delivery_seconds",
            "Age of the oldest delivery that is not confirmed, since its event; 0 without one",
            ["channel", "state"],
            registry=registry,
        )
        self._budget_used = Gauge(
            "kickoff_bridge_budget_used_ratio", "The used part of a crew's budget", ["crew"], registry=registry
        )

    async def refresh(self) -> StoreFigures | None:
        """Compute the gauges again if they are older than the TTL; a state without rows is 0, its series continues.

        Return the figures that they show; None while the store is unavailable.
        """
        clock = asyncio.get_running_loop().time
        async with self._computing:
            if clock() - self._computed_at >= self._ttl:
                self._latest = await self._figures()
                self._show(self._latest)
                self._computed_at = clock()
            return self._latest

    async def _figures(self) -> StoreFigures | None:
        budgets = {crew: budget for crew, budget in self._crews().items() if budget is not None}
        try:
            async with asyncio.timeout(self._timeout):
                return await self._store.figures(budgets, self._clock())
        except Exception as error:  # noqa: BLE001  # a broken store must not hide the other metrics
            log.debug("store_count_failed", error=type(error).__name__)
            return None

    def _show(self, figures: StoreFigures | None) -> None:
        for gauge in (self._runs, self._oldest_run, self._deliveries, self._oldest_delivery, self._budget_used):
            gauge.clear()
        if figures is None:
            return
        now = self._clock()
        no_runs = {(crew, state): Backlog(0, math.inf) for crew in self._crews() for state in _RUN_STATES}
        for gauge, oldest, backlogs in (
            (self._runs, self._oldest_run, {**no_runs, **figures.runs}),
            (self._deliveries, self._oldest_delivery, {**self._no_deliveries, **figures.deliveries}),
        ):
            for labels, backlog in backlogs.items():
                gauge.labels(*labels).set(backlog.number)
                oldest.labels(*labels).set(max(0.0, now - backlog.oldest_at))
        for crew, used in figures.budgets_used.items():
            self._budget_used.labels(crew).set(used)
