"""The trace of a run, from its producer's span to the spans of those that receive its event, over OTLP."""

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import aio_pika
import pytest
from aiohttp import web
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.patience import PATIENCE
from tests.system.acceptance.harness import RESULTS, Daemon, channel
from tests.web_server import web_server

PAGE = Path(__file__).parents[3] / "docs" / "observe.md"
W3C = TraceContextTextMapPropagator()


class OtlpReceiver:
    """Receives traces like an OpenTelemetry Collector; `spans` are those of every service."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()

    async def take(self, request: web.Request) -> web.Response:
        export = ExportTraceServiceRequest.FromString(await request.read())
        for resource in export.resource_spans:
            names = [item.value.string_value for item in resource.resource.attributes if item.key == "service.name"]
            self.services.update(names)
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response()

    def tree(self) -> Sequence[str]:
        """Every span below its parent, by time, with its kind and its events."""
        return list(self._below(b""))

    def _below(self, parent: bytes, depth: int = 0) -> Iterator[str]:
        children = [span for span in self.spans if span.parent_span_id == parent]
        for span in sorted(children, key=lambda span: (span.start_time_unix_nano, span.name)):
            kind = Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower()
            events = f": {', '.join(event.name for event in span.events)}" if span.events else ""
            yield f"{'  ' * depth}{span.name} ({kind}){events}"
            yield from self._below(span.span_id, depth + 1)


async def test_one_trace_leads_from_a_producer_to_the_receivers_of_its_event(
    tmp_path: Path, crew_url: str, amqp: str, monkeypatch: pytest.MonkeyPatch
):
    otlp, called = OtlpReceiver(), asyncio.Event()

    async def receive_callback(request: web.Request) -> web.Response:
        with shop.start_as_current_span("receive callback", W3C.extract(request.headers), SpanKind.SERVER):
            called.set()
            return web.Response(status=204)

    callbacks = web_server(web.post("/", receive_callback))
    async with web_server(web.post("/v1/traces", otlp.take)) as collector, callbacks as callback_url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        shop = provider.get_tracer("shop")
        bridge = Daemon(tmp_path, crew_url, amqp={"url": amqp}, callbacks={"allow_private": True})
        try:
            await bridge.start()
            headers = dict[str, str]()
            with shop.start_as_current_span("order", kind=SpanKind.PRODUCER) as order:
                W3C.inject(headers)
                async with channel(amqp) as ch:
                    exchange = await ch.get_exchange("kickoff.requests")
                    body = {"crew": "research", "inputs": {"n": "1"}, "callback_url": callback_url}
                    message = aio_pika.Message(json.dumps(body).encode(), headers=dict(headers))
                    await exchange.publish(message, "research")
            async with channel(amqp) as ch:
                queue = await ch.get_queue(RESULTS)
                async with queue.iterator(timeout=PATIENCE) as messages:
                    event = await anext(messages)
                    await event.ack()
            context = W3C.extract({"traceparent": str(event.headers["traceparent"])})
            shop.start_span("read result", context, SpanKind.CONSUMER).end()
            async with asyncio.timeout(PATIENCE):
                await called.wait()
        finally:
            await bridge.close()  # exports what is left
            await asyncio.to_thread(provider.shutdown)

    trace_id = format(order.get_span_context().trace_id, "032x")
    print(*otlp.tree(), sep="\n")
    assert {span.trace_id.hex() for span in otlp.spans} == {trace_id}
    assert otlp.services == {"shop", "kickoff-bridge"}
    documented = re.search(r"```\n(order \(producer\)\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert documented is not None
    assert sorted(otlp.tree()) == sorted(documented[1].splitlines())  # whichever destination comes first
    parents = {span.span_id: span.name for span in otlp.spans}
    assert {(parents[span.parent_span_id], span.name) for span in otlp.spans if span.parent_span_id} == {
        ("order", "process kickoff.requests"),
        *(("process kickoff.requests", name) for name in ("wait", "POST /kickoff", "run research", "POST")),
        ("process kickoff.requests", "publish kickoff.results"),
        ("publish kickoff.results", "read result"),
        ("POST", "receive callback"),
    }
    lines = [json.loads(line) for line in bridge.log().splitlines()]
    of_run = [line for line in lines if "run_id" in line]
    assert {line["event"] for line in of_run} >= {"kickoff_answered", "run_ended"}
    assert {line["trace_id"] for line in of_run} == {trace_id}
