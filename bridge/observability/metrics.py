"""Prometheus metrics, except those of the store's content (`store_gauges`).

They are counted where things happen, through functions of `ports.metrics`, so that neither the steps nor the adapters
know about metrics.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from bridge import __version__
from bridge.core.crew.responses import KickoffResponse, ResumeResponse, StatusResponse
from bridge.core.delivery.model import Channel, Delivery
from bridge.core.delivery.outcome import Confirmed, SendResult, Unroutable, Withheld
from bridge.core.errors import RefusalCode
from bridge.core.redaction import Redactor
from bridge.core.runs.model import Run, State
from bridge.core.runs.quarantine import Quarantined
from bridge.core.values import kind_name
from bridge.observability.logging import log_fault
from bridge.ports.crew_api import CrewFigures
from bridge.ports.deliveries import Sender
from bridge.ports.lifecycle import Clock
from bridge.ports.metrics import StoreMetrics

VIA = ("amqp", "http", "hook", "source")
"""The entry points of kickoff requests."""
OPERATIONS = ("kickoff", "poll", "human_input", "stop", "inputs")
"""The calls to a crew API."""
RESPONSES = {"kickoff": KickoffResponse, "poll": StatusResponse, "human_input": ResumeResponse}
ENDS: Mapping[State, tuple[str, ...]] = {
    State.SUCCEEDED: ("none",),
    State.FAILED: ("refused", "execution_failed", "lost", "abandoned", "expired", "result_too_large"),
    State.TIMED_OUT: ("deadline_exceeded",),
    State.CANCELLED: ("cancelled",),
}
"""The final states with their errors."""
TOKEN_KINDS = ("total", "prompt", "cached_prompt", "completion")
"""The kinds of tokens in the `usage` of an execution, where each is named `<kind>_tokens`."""
MAX_TOKENS = 1e12  # of one run; a larger number is an error of the API, and would spoil the sum


def _response_labels(union: Any) -> list[str]:
    """Return the label values of a union of responses, or of one."""
    return [kind_name(kind) for kind in get_args(union) or (union,)]


def tokens_used(usage: Any) -> dict[str, float]:
    """Return the tokens in an execution's usage by kind; what is not a sensible number is omitted."""
    found = {kind: usage.get(f"{kind}_tokens") for kind in TOKEN_KINDS} if isinstance(usage, Mapping) else {}
    return {
        kind: float(tokens)
        for kind, tokens in found.items()
        if isinstance(tokens, int | float) and not isinstance(tokens, bool) and 0 <= tokens <= MAX_TOKENS
    }


def _counters(name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> Callable[..., Counter]:
    """Return the function that returns the counter with these label values; the library's own is slow."""
    return cache(Counter(name, text, labels, registry=registry).labels)


def _histograms(
    name: str, text: str, labels: Sequence[str], registry: CollectorRegistry, buckets: Sequence[float]
) -> Callable[..., Histogram]:
    """As `_counters`, for histograms."""
    return cache(Histogram(name, text, labels, registry=registry, buckets=buckets).labels)


class Counters:
    """Keeps the metrics of one registry; `store` is what the store reports to.

    Every counter exists with 0 from the start, for the label values that are known then.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        ProcessCollector(registry=registry)
        build = Gauge("kickoff_bridge_build_info", "Always 1; labeled by version.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self._requests = _counters(
            "kickoff_bridge_requests", "Kickoff requests, by entry point and outcome", ["via", "outcome"], registry
        )
        for via, outcome in product(VIA, ("accepted", "replayed", *get_args(RefusalCode))):
            self._requests(via, outcome)
        self._runs_ended = _counters(
            "kickoff_bridge_runs_ended",
            "Runs that ended, by final state and error",
            ["crew", "state", "error"],
            registry,
        )
        self._tokens_used = _counters(
            "kickoff_bridge_tokens_used",
            "Tokens used by executions, as far as the crew API reports them",
            ["crew", "kind"],
            registry,
        )
        self._run_wait = _histograms(
            "kickoff_bridge_run_wait_seconds",
            "Time from the acceptance of a run to its first POST",
            ["crew"],
            registry,
            (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400),
        )
        self._run_duration = _histograms(
            "kickoff_bridge_run_duration_seconds",
            "Time from the POST of a run to its end",
            ["crew"],
            registry,
            (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400, 259200),
        )
        outcome_of_call = ["crew", "outcome"]
        self._responses = {
            "kickoff": _counters(
                "kickoff_bridge_kickoffs", "Kickoff requests to a crew, by outcome", outcome_of_call, registry
            ),
            "poll": _counters("kickoff_bridge_polls", "Polls of a crew, by outcome", outcome_of_call, registry),
            "human_input": _counters(
                "kickoff_bridge_human_inputs",
                "Human answers submitted to a crew, by outcome",
                outcome_of_call,
                registry,
            ),
        }
        self._crew_requests = _histograms(
            "kickoff_bridge_crew_request_seconds",
            "Duration of calls to a crew, including failed ones",
            ["crew", "operation"],
            registry,
            (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
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
        self._commits = Histogram(
            "kickoff_bridge_store_commit_seconds",
            "Duration of the store's transactions, each with all writes that were waiting",
            registry=registry,
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self._stale_writes = Counter(
            "kickoff_bridge_stale_writes", "Writes discarded because the row had a newer version", registry=registry
        )
        self._quarantined = _counters(
            "kickoff_bridge_quarantined",
            "Items quarantined, and background work postponed, after an unexpected exception",
            ["kind"],
            registry,
        )
        for kind in Quarantined:
            self._quarantined(kind.value)
        self._attempts = _counters(
            "kickoff_bridge_delivery_attempts",
            "Attempts to deliver an event, by outcome",
            ["channel", "outcome"],
            registry,
        )
        self._delivery_time = _histograms(
            "kickoff_bridge_delivery_seconds",
            "Time from the storage of an event to its confirmation, without redeliveries",
            ["channel"],
            registry,
            (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 300, 1800, 7200, 43200, 259200),
        )
        for channel in Channel:
            self._delivery_time(channel.value)
            for outcome in map(kind_name, [*get_args(SendResult), Unroutable, Withheld]):
                self._attempts(channel.value, outcome)
        self.store = StoreMetrics(self._stale_writes.inc, self._commits.observe, self._observe_wait, self._count_end)

    def count_request(self, via: str, outcome: str) -> None:
        """Count a kickoff request: `accepted`, `replayed`, or the code of the refusal."""
        self._requests(via, outcome).inc()

    def count_response(self, crew: str, operation: str, response: object) -> None:
        """Count a crew's response to a `kickoff`, a `poll`, or `human_input`."""
        self._responses[operation](crew, kind_name(type(response))).inc()

    def observe_crew_request(self, crew: str, operation: str, seconds: float) -> None:
        """Observe the duration of a call to a crew."""
        self._crew_requests(crew, operation).observe(seconds)

    def count_attempt(self, delivery: Delivery, result: SendResult, now: float) -> None:
        """Count an attempt at a delivery; if it was the first to be confirmed, observe the time since its storage."""
        channel = delivery.destination.channel.value
        self._attempts(channel, kind_name(type(result))).inc()
        if isinstance(result, Confirmed) and not delivery.earlier_attempts:
            self._delivery_time(channel).observe(max(0.0, now - delivery.event.created_at))

    def report(self, kind: Quarantined, error: BaseException, /, *, repeated: bool = False, **about: object) -> None:
        """Log an unexpected exception with its traceback, and count it; `ports.ReportFault`."""
        self._quarantined(kind.value).inc()
        log_fault(kind, error, repeated=repeated, **about)

    def show_crew(self, crew: str, figures: Callable[[], CrewFigures]) -> None:
        """Create a crew's counters, and register its gauges, which are read on every scrape."""
        self.paused.labels(crew).set_function(self._safely(lambda: figures().paused))
        self.request_rate.labels(crew).set_function(self._safely(lambda: figures().request_rate))
        self.tracked_runs.labels(crew).set_function(self._safely(lambda: figures().tracked_runs))
        self.overdue.labels(crew).set_function(self._safely(lambda: figures().overdue))
        self._run_wait(crew)
        self._run_duration(crew)
        for operation, responses in RESPONSES.items():
            for outcome in _response_labels(responses):
                self._responses[operation](crew, outcome)
        for operation in OPERATIONS:
            self._crew_requests(crew, operation)
        for state, errors in ENDS.items():
            for error in errors:
                self._runs_ended(crew, state.value, error)
        for kind in TOKEN_KINDS:
            self._tokens_used(crew, kind)

    def hide_crew(self, crew: str) -> None:
        """Remove the gauges of a crew; its counters stay."""
        for gauge in (self.paused, self.request_rate, self.tracked_runs, self.overdue):
            gauge.remove(crew)

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

    def hide_link(self, link: str) -> None:
        """Remove the gauge of a broker connection."""
        self.connected.remove(link)

    def _observe_wait(self, run: Run) -> None:
        """Observe how long a claimed run has waited; later attempts of the same run are not counted."""
        if run.attempt == 1 and run.sent_at is not None:
            self._run_wait(run.crew).observe(max(0.0, run.sent_at - run.accepted_at))

    def _count_end(self, run: Run) -> None:
        """Count a run that has ended, and what its execution took."""
        error = run.outcome.error
        self._runs_ended(run.crew, run.state.value, "none" if error is None else error.code).inc()
        if run.kickoff_id is not None and run.sent_at is not None and run.finished_at is not None:
            self._run_duration(run.crew).observe(max(0.0, run.finished_at - run.sent_at))
        for kind, tokens in tokens_used(run.outcome.usage).items():
            self._tokens_used(run.crew, kind).inc(tokens)


class CountedSender:
    """Counts the attempts of a sender, and redacts known secrets in its results; `ports.Sender`."""

    def __init__(self, sender: Sender, counters: Counters, redactor: Redactor, clock: Clock) -> None:
        self._redactor = redactor
        self._sender = sender
        self._counters = counters
        self._clock = clock

    @property
    def ready(self) -> bool:
        """Whether the sender can send now."""
        return self._sender.ready

    async def send(self, delivery: Delivery) -> SendResult:
        """Make one attempt at a delivery."""
        result = self._redactor.fields(await self._sender.send(delivery))
        self._counters.count_attempt(delivery, result, self._clock())
        return result
