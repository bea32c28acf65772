"""Export one trace per run over OTLP, with the optional OpenTelemetry SDK.

Every span is built when it has ended, from values that the run or the delivery stores; its id is derived from theirs
(`core.runs.trace_context`). So no step holds a span, and the spans of one run may come from several processes.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from bridge import __version__
from bridge.core.crew.responses import KickoffResponse, failure_reason
from bridge.core.delivery.model import Channel, Delivery
from bridge.core.delivery.outcome import DeliveryOutcome
from bridge.core.runs import history, trace_context
from bridge.core.runs.model import Envelope, Run
from bridge.core.values import replace
from bridge.ports.tracing import Tracing

SERVICE = "kickoff-bridge"
CLOSE_WITHIN = 5.0  # seconds
_NANOSECONDS = 1_000_000_000
_SCOPE = InstrumentationScope(SERVICE, __version__)
_FLAGS = {True: TraceFlags(TraceFlags.SAMPLED), False: TraceFlags(TraceFlags.DEFAULT)}
_OK = Status()
_BOUNDS: Sequence[history.HistoryEvent] = ("accepted", "posted", "answered", "ended")  # what the times of spans show
_QUEUES = ("queue", "source")  # entry points of RabbitMQ

Attributes = dict[str, str | int | float]

log = structlog.get_logger()


def otlp_processor() -> SpanProcessor:
    """Return what exports spans from a thread, as the `OTEL_*` variables say; raises `ValueError` if one is invalid."""
    return BatchSpanProcessor(OTLPSpanExporter())


class _SharedResource(Resource):
    """The resource of every span. The encoder asks for its hash with each of them, which is JSON in the base class."""

    __hash__ = object.__hash__

    @classmethod
    def of(cls, resource: Resource) -> "_SharedResource":
        return cls(dict(resource.attributes), resource.schema_url)


class SpanExport:
    """Builds the spans of runs and passes them to the processor. `results`: the name of the results exchange.

    The resource and the sampler are those that the `OTEL_*` variables name.
    """

    def __init__(self, processor: SpanProcessor, results: str | None) -> None:
        provider = TracerProvider(resource=Resource.create({"service.name": SERVICE, "service.version": __version__}))
        self._resource, self._sampler = _SharedResource.of(provider.resource), provider.sampler
        self._processor = processor
        self._results = results
        self._failed = False

    @property
    def tracing(self) -> Tracing:
        """What steps call. An exception of the SDK costs a span, never the response or the delivery in question."""
        return Tracing(
            self._begin,
            self._safely(self._accepted),
            _kickoff_context,
            self._safely(self._answered),
            self._safely(self._ended),
            _addressed,
            self._safely(self._attempted),
        )

    def close(self) -> None:
        """Export the remaining spans, for `CLOSE_WITHIN` seconds at most; blocks meanwhile."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_WITHIN)

    def _safely(self, report: Callable[..., None]) -> Callable[..., None]:
        def call(*values: Any) -> None:
            try:
                report(*values)
            except Exception:  # of the SDK
                log.exception("span_discarded", exc_info=not self._failed)
                self._failed = True

        return call

    def _begin(self, run_id: str, envelope: Envelope) -> Envelope:
        parent = envelope.traceparent
        trace_id = trace_context.derive_trace_id(run_id) if parent is None else trace_context.trace_id(parent)
        context = (
            Context() if parent is None else trace.set_span_in_context(NonRecordingSpan(_remote(parent)), Context())
        )
        decision = self._sampler.should_sample(context, int(trace_id, 16), "accept").decision
        sampled = decision is Decision.RECORD_AND_SAMPLE
        flags = trace_context.SAMPLED if sampled else trace_context.NOT_SAMPLED
        own = trace_context.traceparent(trace_id, trace_context.accept_span_id(run_id), flags)
        return replace(envelope, traceparent=own)

    def _accepted(self, run: Run, requested_in: str | None, stored_at: float) -> None:
        own = run.traceparent
        if own is None or not trace_context.is_sampled(own):
            return
        kind, name, attributes = _acceptance(run)
        parent = None if requested_in is None else _remote(requested_in)
        self._add(_local(own), parent, name, kind, (run.accepted_at, stored_at), attributes)

    def _answered(self, run: Run, response: KickoffResponse, answered_at: float) -> None:
        context, sent_at = run.traceparent, run.sent_at
        if context is None or sent_at is None or not trace_context.is_sampled(context):
            return
        attributes: Attributes = {"http.request.method": "POST"}
        if run.attempt > 1:
            attributes["http.request.resend_count"] = run.attempt - 1
        parent = _local(context)
        if run.attempt == 1:
            wait = _child(parent, trace_context.derive_span_id(run.run_id, "wait"))
            self._add(wait, parent, "wait", SpanKind.INTERNAL, (run.accepted_at, sent_at), {})
        own = _child(parent, trace_context.kickoff_span_id(run.run_id, run.attempt))
        error, times = failure_reason(response), (sent_at, answered_at)
        self._add(own, parent, "POST /kickoff", SpanKind.CLIENT, times, attributes, error=error)

    def _ended(self, run: Run) -> None:
        context = run.traceparent
        if context is None or not trace_context.is_sampled(context):
            return
        began, ended = run.sent_at or run.accepted_at, run.finished_at or run.accepted_at
        attributes = _identity(run) | {"kickoff_bridge.state": run.state.value, "kickoff_bridge.polls": run.polls}
        if run.kickoff_id is not None:
            attributes["kickoff_bridge.kickoff_id"] = run.kickoff_id
        parent = _local(context)
        own = _child(parent, trace_context.derive_span_id(run.run_id, "run"))
        error = None if run.outcome.error is None else run.outcome.error.code
        events = [
            Event(str(entry.pop("event")), entry, _nanoseconds(entry.pop("at")))
            for entry in history.decoded(history.without(run.history, _BOUNDS))
            if entry["at"] >= began
        ]
        self._add(own, parent, f"run {run.crew}", SpanKind.INTERNAL, (began, ended), attributes, events, error=error)

    def _attempted(self, outcome: DeliveryOutcome) -> None:
        delivery, attempt = outcome.delivery, outcome.attempt
        context = delivery.traceparent
        if context is None or not trace_context.is_sampled(context):
            return
        kind, name, attributes = self._sending(delivery)
        if attempt.code is not None:
            attributes["http.response.status_code"] = attempt.code
        parent, links = _local(context), []
        if attempt.number > 1:
            earlier = trace_context.delivery_span_id(delivery.delivery_id, attempt.number - 1)
            links.append(Link(_child(parent, earlier)))
        own = _child(parent, trace_context.delivery_span_id(delivery.delivery_id, attempt.number))
        times = (attempt.at, attempt.at + attempt.seconds)
        self._add(own, parent, name, kind, times, attributes, links=links, error=attempt.error)

    def _sending(self, delivery: Delivery) -> tuple[SpanKind, str, Attributes]:
        destination = delivery.destination
        attributes: Attributes = {"messaging.message.id": delivery.event.event_id}
        if destination.channel is Channel.CALLBACK:
            host = _host(destination.target)
            return SpanKind.CLIENT, "POST", attributes | {"http.request.method": "POST", "server.address": host}
        attributes |= {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "publish",
            "messaging.operation.type": "send",
            "messaging.rabbitmq.destination.routing_key": destination.target,
        }
        if destination.channel is Channel.EXCHANGE and self._results is not None:
            attributes["messaging.destination.name"] = self._results
            return SpanKind.PRODUCER, f"publish {self._results}", attributes
        return SpanKind.PRODUCER, "publish", attributes

    def _add(
        self,
        own: SpanContext,
        parent: SpanContext | None,
        name: str,
        kind: SpanKind,
        times: tuple[float, float],
        attributes: Attributes,
        events: Sequence[Event] = (),
        links: Sequence[Link] = (),
        error: str | None = None,
    ) -> None:
        began, ended = times
        span = ReadableSpan(
            name,
            context=own,
            parent=parent,
            resource=self._resource,
            attributes=attributes if error is None else attributes | {"error.type": error.partition(":")[0]},
            events=events,
            links=links,
            kind=kind,
            status=_OK if error is None else Status(StatusCode.ERROR, error),
            start_time=_nanoseconds(began),
            end_time=_nanoseconds(max(began, ended)),
            instrumentation_scope=_SCOPE,
        )
        self._processor.on_end(span)


def _kickoff_context(run: Run) -> str | None:
    context = run.traceparent
    return context and trace_context.child(context, trace_context.kickoff_span_id(run.run_id, run.attempt))


def _addressed(delivery: Delivery) -> Delivery:
    if (context := delivery.traceparent) is None:
        return delivery
    span_id = trace_context.delivery_span_id(delivery.delivery_id, delivery.attempts + 1)
    headers = {**delivery.event.headers, "traceparent": trace_context.child(context, span_id)}
    return replace(delivery, event=replace(delivery.event, headers=headers))


def _acceptance(run: Run) -> tuple[SpanKind, str, Attributes]:
    """Return the kind, name, and attributes of the span in which a run was accepted."""
    entry, _, queue = run.envelope.source.partition("/")
    if entry not in _QUEUES:
        return SpanKind.SERVER, "accept", _identity(run)
    return (
        SpanKind.CONSUMER,
        f"process {queue}",
        _identity(run)
        | {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
        }
        | ({"messaging.destination.name": queue} if entry == "queue" else {}),
    )


def _identity(run: Run) -> Attributes:
    return {"kickoff_bridge.run_id": run.run_id, "kickoff_bridge.crew": run.crew}


def _child(parent: SpanContext, span_id: str) -> SpanContext:
    return SpanContext(parent.trace_id, int(span_id, 16), is_remote=False, trace_flags=parent.trace_flags)


def _remote(traceparent: str) -> SpanContext:
    return _span_context(traceparent, is_remote=True)


def _local(traceparent: str) -> SpanContext:
    return _span_context(traceparent, is_remote=False)


def _span_context(traceparent: str, *, is_remote: bool) -> SpanContext:
    trace_id, span_id = trace_context.trace_id(traceparent), trace_context.parent_id(traceparent)
    flags = _FLAGS[trace_context.is_sampled(traceparent)]
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote, flags)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _NANOSECONDS)
