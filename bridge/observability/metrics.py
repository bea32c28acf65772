"""Prometheus metrics.

`Counters` are counted at the ports, so that steps do not know about metrics; `StoreGauges` are queried.
"""

import asyncio
import math
import re
from collections.abc import Callable, Mapping

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from bridge import __version__
from bridge.core.delivery.model import Delivery, DeliveryState
from bridge.core.delivery.outcome import SendResult
from bridge.core.redaction import Redactor
from bridge.core.runs.model import State
from bridge.core.runs.quarantine import Quarantined
from bridge.observability.logging import log_fault
from bridge.ports.crew_api import CrewFigures
from bridge.ports.deliveries import Sender
from bridge.ports.queries import Queries

log = structlog.get_logger()


def outcome_label(kind: type) -> str:
    """Return the label value of a response: its class name in snake_case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


class Counters:
    """Keeps the metrics of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        build = Gauge("kickoff_bridge_build_info", "Always 1; labeled by version.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self._responses = {
            "kickoff": Counter(
                "kickoff_bridge_kickoffs",
                "Kickoff requests to a crew, by outcome",
                ["crew", "outcome"],
                registry=registry,
            ),
            "poll": Counter(
                "kickoff_bridge_polls", "Polls of a crew, by outcome", ["crew", "outcome"], registry=registry
            ),
            "human_input": Counter(
                "kickoff_bridge_human_inputs",
                "Human answers submitted to a crew, by outcome",
                ["crew", "outcome"],
                registry=registry,
            ),
        }
        self.paused = Gauge(
            "kickoff_bridge_crew_paused", "1 while a crew is paused and probed", ["crew"], registry=registry
        )
        self.tracked_runs = Gauge(
            "kickoff_bridge_tracked_runs", "Runs that this process polls", ["crew"], registry=registry
        )
        self.overdue = Gauge(
            "kickoff_bridge_polls_overdue", "Due polls that wait for a permit", ["crew"], registry=registry
        )
        self.request_rate = Gauge(
            "kickoff_bridge_crew_request_rate",
            "Calls per second that this process may make to a crew now; 0 while the crew is paused",
            ["crew"],
            registry=registry,
        )
        self.connected = Gauge(
            "kickoff_bridge_broker_connected",
            "1 while a connection to the broker is usable",
            ["link"],
            registry=registry,
        )
        self.stale_writes = Counter(
            "kickoff_bridge_stale_writes", "Writes discarded because the row had a newer version", registry=registry
        )
        self.quarantined = Counter(
            "kickoff_bridge_quarantined",
            "Items quarantined, and background work postponed, after an unexpected exception",
            ["kind"],
            registry=registry,
        )
        for kind in Quarantined:
            self.quarantined.labels(kind.value)
        self.attempts = Counter(
            "kickoff_bridge_delivery_attempts",
            "Attempts to deliver an event, by outcome",
            ["channel", "outcome"],
            registry=registry,
        )

    def count_response(self, crew: str, operation: str, response: object) -> None:
        """Count a crew's response to a `kickoff`, a `poll`, or `human_input`."""
        self._responses[operation].labels(crew, outcome_label(type(response))).inc()

    def report(self, kind: Quarantined, error: BaseException, /, *, repeated: bool = False, **about: object) -> None:
        """Log an unexpected exception with its traceback, and count it; `ports.ReportFault`."""
        self.quarantined.labels(kind.value).inc()
        log_fault(kind, error, repeated=repeated, **about)

    def show_crew(self, crew: str, figures: Callable[[], CrewFigures]) -> None:
        """Register a crew's gauges, which are read on every scrape."""
        self.paused.labels(crew).set_function(self._safely(lambda: figures().paused))
        self.request_rate.labels(crew).set_function(self._safely(lambda: figures().request_rate))
        self.tracked_runs.labels(crew).set_function(self._safely(lambda: figures().tracked_runs))
        self.overdue.labels(crew).set_function(self._safely(lambda: figures().overdue))

    def _safely(self, read: Callable[[], float]) -> Callable[[], float]:
        """Return a reader that reports an exception and yields NaN, so that the other metrics stay readable."""

        def value() -> float:
            try:
                return read()
            except Exception as error:  # noqa: BLE001 - affects this value alone
                self.report(Quarantined.TASK, error, task="metrics")
                return math.nan

        return value

    def show_link(self, link: str, usable: Callable[[], bool]) -> None:
        """Register the gauge of a broker connection."""
        self.connected.labels(link).set_function(self._safely(lambda: float(usable())))


class CountedSender:
    """Counts the attempts of a sender, and redacts known secrets in its results; `ports.Sender`."""

    def __init__(self, sender: Sender, counters: Counters, redactor: Redactor) -> None:
        self._redactor = redactor
        self._sender = sender
        self._counters = counters

    @property
    def ready(self) -> bool:
        """Whether the sender can send now."""
        return self._sender.ready

    async def send(self, delivery: Delivery) -> SendResult:
        """Make one attempt at a delivery."""
        result = self._redactor.fields(await self._sender.send(delivery))
        self._counters.attempts.labels(delivery.destination.channel.value, outcome_label(type(result))).inc()
        return result


class StoreGauges:
    """Gauges over the store, computed at most once per `ttl` seconds; absent while the store is unavailable."""

    def __init__(self, store: Queries, registry: CollectorRegistry, timeout: float, ttl: float) -> None:
        self._store = store
        self._timeout = timeout
        self._ttl = ttl
        self._counted_at = -math.inf
        self._counting = asyncio.Lock()
        runs = Gauge("kickoff_bridge_runs", "Runs in the store.", ["state"], registry=registry)
        deliveries = Gauge("kickoff_bridge_deliveries", "Deliveries in the store.", ["state"], registry=registry)
        self._gauges = {"runs": (runs, State), "deliveries": (deliveries, DeliveryState)}

    async def refresh(self) -> None:
        """Update the gauges if they are older than the TTL; a state without rows is 0, so that its series continues."""
        clock = asyncio.get_running_loop().time
        async with self._counting:
            if clock() - self._counted_at >= self._ttl:
                self._set(await self._query_counts())
                self._counted_at = clock()

    def _set(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        for kind, (gauge, states) in self._gauges.items():
            gauge.clear()
            for state in states if counts else ():
                gauge.labels(state.value).set(counts.get(kind, {}).get(state.value, 0))

    async def _query_counts(self) -> dict[str, dict[str, int]]:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._store.counts()
        except Exception as error:  # noqa: BLE001  # a broken store must not hide the other metrics
            log.debug("counts_unavailable", error=type(error).__name__)
            return {}
