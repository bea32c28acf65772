"""What the outside answered, counted for Prometheus: thin wrappers around ports, so that the steps need not know."""

import math
import re
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from bridge.core.crew.responses import KickoffResponse, ResumeResponse, StatusResponse
from bridge.core.delivery.model import Delivery
from bridge.core.delivery.outcome import SendResult
from bridge.core.redaction import Redactor
from bridge.core.runs.quarantine import Quarantined
from bridge.observability.logging import log_fault
from bridge.ports.crew_api import CrewApi, CrewFigures
from bridge.ports.deliveries import Sender
from bridge.ports.lifecycle import Health


def outcome_label(kind: type) -> str:
    """Return the label value of a response: its class name in snake_case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


class Counters:
    """The counters of one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.kickoffs = Counter(
            "kickoff_bridge_kickoffs", "POSTs to a crew by what they came to", ["crew", "outcome"], registry=registry
        )
        self.polls = Counter(
            "kickoff_bridge_polls", "Looks at a status by what they came to", ["crew", "outcome"], registry=registry
        )
        self.resumes = Counter(
            "kickoff_bridge_human_inputs",
            "Answers carried to a crew by what they came to",
            ["crew", "outcome"],
            registry=registry,
        )
        self.paused = Gauge(
            "kickoff_bridge_crew_paused", "1 while a crew cannot be used and is probed", ["crew"], registry=registry
        )
        self.tracked_runs = Gauge(
            "kickoff_bridge_tracked_runs", "Runs whose status this process looks at", ["crew"], registry=registry
        )
        self.overdue = Gauge(
            "kickoff_bridge_polls_overdue", "Looks that are due and wait for their turn", ["crew"], registry=registry
        )
        self.rate_limiter = Gauge(
            "kickoff_bridge_crew_request_rate",
            "Calls per second that this process may make to a crew now; 0 while it is left alone",
            ["crew"],
            registry=registry,
        )
        self.connected = Gauge(
            "kickoff_bridge_broker_connected", "1 while a link to the broker is usable", ["link"], registry=registry
        )
        self.stale_writes = Counter(
            "kickoff_bridge_stale_writes", "Writes that were refused because the row had moved on", registry=registry
        )
        self.quarantined = Counter(
            "kickoff_bridge_quarantined",
            "Items set aside, and work given up for the moment, after an unexpected exception",
            ["kind"],
            registry=registry,
        )
        for kind in Quarantined:
            self.quarantined.labels(kind.value)
        self.attempts = Counter(
            "kickoff_bridge_delivery_attempts",
            "Attempts to deliver an event by what they came to",
            ["channel", "outcome"],
            registry=registry,
        )

    def report(self, kind: Quarantined, error: BaseException, /, **about: object) -> None:
        """Log an unexpected exception with its traceback, and count it; `ports.ReportFault`."""
        self.quarantined.labels(kind.value).inc()
        log_fault(kind, error, **about)

    def show_crew(self, crew: str, figures: Callable[[], CrewFigures]) -> None:
        """Show how things stand with a crew whenever somebody asks."""
        self.paused.labels(crew).set_function(self._safely(lambda: figures().paused))
        self.rate_limiter.labels(crew).set_function(self._safely(lambda: figures().request_rate))
        self.tracked_runs.labels(crew).set_function(self._safely(lambda: figures().tracked_runs))
        self.overdue.labels(crew).set_function(self._safely(lambda: figures().overdue))

    def _safely(self, read: Callable[[], float]) -> Callable[[], float]:
        """One value that cannot be read must not cost all the others."""

        def value() -> float:
            try:
                return read()
            except Exception as error:  # noqa: BLE001 - whatever it is
                self.report(Quarantined.TASK, error, task="metrics")
                return math.nan

        return value

    def show_link(self, link: str, usable: Callable[[], bool]) -> None:
        """Show whether a link to the broker can be used."""
        self.connected.labels(link).set_function(self._safely(lambda: float(usable())))


class CountedCrewApi:
    """A crew API whose answers are counted; `ports.CrewApi`."""

    def __init__(self, api: CrewApi, crew: str, counters: Counters) -> None:
        self._api = api
        self._crew = crew
        self._counters = counters
        self._poll_counters: dict[type, Counter] = {}

    async def acquire(self) -> None:
        """Wait until one more call is permitted."""
        await self._api.acquire()

    async def kickoff(self, body: dict[str, Any]) -> KickoffResponse:
        """Start an execution."""
        response = await self._api.kickoff(body)
        self._counters.kickoffs.labels(self._crew, outcome_label(type(response))).inc()
        return response

    async def resume(self, body: dict[str, Any]) -> ResumeResponse:
        """Carry a human's response to a crew."""
        return self._resumed(await self._api.resume(body))

    async def answer_flow(self, callback_url: str, feedback: str) -> ResumeResponse:
        """Carry a human's response to a flow."""
        return self._resumed(await self._api.answer_flow(callback_url, feedback))

    def _resumed(self, response: ResumeResponse) -> ResumeResponse:
        self._counters.resumes.labels(self._crew, outcome_label(type(response))).inc()
        return response

    async def status(self, kickoff_id: str) -> StatusResponse:
        """Look at an execution."""
        response = await self._api.status(kickoff_id)
        kind = type(response)
        if kind not in self._poll_counters:  # looking the series up costs more than counting
            self._poll_counters[kind] = self._counters.polls.labels(self._crew, outcome_label(kind))
        self._poll_counters[kind].inc()
        return response

    async def inputs(self) -> tuple[str, ...] | None:
        """The names of the inputs that the crew takes."""
        return await self._api.inputs()

    async def stop(self, kickoff_id: str) -> bool:
        """Ask for an execution to be stopped."""
        return await self._api.stop(kickoff_id)

    async def probe(self) -> Health:
        """Whether the crew can be used."""
        return await self._api.probe()


class CountedSender:
    """A sender whose attempts are counted, and whose answers hold no known secret; `ports.Sender`."""

    def __init__(self, sender: Sender, counters: Counters, redactor: Redactor) -> None:
        self._redactor = redactor
        self._sender = sender
        self._counters = counters

    @property
    def ready(self) -> bool:
        """Whether sending makes sense now."""
        return self._sender.ready

    async def send(self, delivery: Delivery) -> SendResult:
        """Hand one event over."""
        response = self._redactor.fields(await self._sender.send(delivery))
        self._counters.attempts.labels(delivery.destination.channel.value, outcome_label(type(response))).inc()
        return response
