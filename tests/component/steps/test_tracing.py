"""Spans of runs, built by the steps that end what they describe."""

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from structlog.testing import capture_logs

from bridge.core.crew.responses import NotStarted
from bridge.core.crew_policy import CrewPolicy
from bridge.core.delivery.model import Channel
from bridge.core.delivery.outcome import Retryable
from bridge.core.runs.model import Envelope, Run, State
from bridge.observability.tracing import SpanExport
from tests.component.steps.conftest import Bench
from tests.fakes import a_delivery, a_request

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
def spans(bench: Bench) -> InMemorySpanExporter:
    """What the bench's process has exported."""
    exporter = InMemorySpanExporter()
    bench.tracing = SpanExport(SimpleSpanProcessor(exporter), "kickoff.results").tracing
    return exporter


async def accepted(bench: Bench, flags: str = "01") -> Run:
    envelope = Envelope("queue/kickoff.requests", traceparent=f"00-{TRACE}-{PARENT}-{flags}")
    return (await bench.accept(a_request(idempotency_key="k-1"), envelope)).run


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def context(span: ReadableSpan) -> str:
    """The span as a trace context."""
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"


async def test_a_run_is_accepted_in_the_trace_of_its_request(bench: Bench, spans: InMemorySpanExporter):
    run = await accepted(bench)

    [span] = spans.get_finished_spans()
    assert span.parent is not None
    assert (format(span.parent.span_id, "016x"), span.parent.is_remote) == (PARENT, True)
    assert run.traceparent == context(span)
    assert run.traceparent.startswith(f"00-{TRACE}-")


async def test_an_exception_of_the_sdk_costs_a_span_and_nothing_else(bench: Bench, spans: InMemorySpanExporter):
    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise RuntimeError(span.name)

    bench.tracing = SpanExport(Broken(), "kickoff.results").tracing
    with capture_logs() as logs:
        run = await accepted(bench)
        await bench.round(bench.kickoff)
    assert (await bench.now(run)).state is State.RUNNING
    assert [line.get("exc_info") for line in logs if line["event"] == "span_discarded"] == [True, False]
    assert spans.get_finished_spans() == ()


async def test_a_replayed_request_adds_no_span_and_changes_no_context(bench: Bench, spans: InMemorySpanExporter):
    first, again = await accepted(bench), await accepted(bench)

    assert (again.run_id, again.traceparent) == (first.run_id, first.traceparent)
    assert len(spans.get_finished_spans()) == 1


async def test_a_request_without_a_context_begins_a_trace(bench: Bench, spans: InMemorySpanExporter):
    runs = [await bench.accepted(), await bench.accepted()]

    first, second = spans.get_finished_spans()
    assert first.parent is None
    assert [run.traceparent for run in runs] == [context(first), context(second)]
    assert first.context is not None
    assert second.context is not None
    assert first.context.trace_id != second.context.trace_id


async def test_the_context_of_each_post_is_sent_in_its_header_and_its_meta(bench: Bench, spans: InMemorySpanExporter):
    await accepted(bench)
    bench.api.kickoff_responses = [NotStarted("connection refused")]
    await bench.round(bench.kickoff)
    bench.clock.forward(600)
    await bench.round(bench.kickoff)

    refused, started = named(spans, "POST /kickoff")
    assert bench.api.traceparents == [context(refused), context(started)]
    assert [body["meta"]["traceparent"] for body in bench.api.bodies] == bench.api.traceparents
    assert (refused.status.status_code, started.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert len(named(spans, "wait")) == 1


async def test_a_retry_of_a_delivery_is_linked_to_the_attempt_before_it(bench: Bench, spans: InMemorySpanExporter):
    bench.policy = CrewPolicy(results_exchange=True)
    await bench.ended()
    bench.sender.responses = [Retryable("HTTP 500")]
    await bench.deliver()
    bench.clock.forward(10)
    await bench.deliver()

    failed, confirmed = named(spans, "publish kickoff.results")
    assert [sent.event.headers["traceparent"] for sent in bench.sender.sent] == [context(failed), context(confirmed)]
    assert [link.context.span_id for link in confirmed.links] == [failed.context and failed.context.span_id]
    assert (failed.links, failed.status.status_code) == ((), StatusCode.ERROR)
    assert failed.parent == confirmed.parent


async def test_what_the_request_does_not_sample_is_not_exported(bench: Bench, spans: InMemorySpanExporter):
    run = await accepted(bench, flags="00")
    await bench.round(bench.kickoff)

    assert spans.get_finished_spans() == ()
    assert run.traceparent is not None
    assert run.traceparent.startswith(f"00-{TRACE}-")
    assert bench.api.traceparents[0].endswith("-00")


async def test_a_refused_message_keeps_its_headers(bench: Bench, spans: InMemorySpanExporter):
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    await bench.store.deliveries.add([a_delivery(channel=Channel.DEAD_LETTER, headers=headers)])
    await bench.deliver()

    assert [sent.event.headers for sent in bench.sender.sent] == [headers]
    assert spans.get_finished_spans() == ()


async def test_without_tracing_the_context_of_the_request_is_kept(bench: Bench):
    run = await accepted(bench)
    await bench.round(bench.kickoff)

    assert run.traceparent == f"00-{TRACE}-{PARENT}-01"
    assert bench.api.traceparents == [None]
    assert "traceparent" not in bench.api.bodies[0]["meta"]
