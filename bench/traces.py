"""What traces cost: CPU per run over RabbitMQ without them, with all runs traced, and with a tenth.

`python -m bench.traces --requests 2000 --pairs 3`; rounds of `bench.throughput`, which take turns. The spans go to an
OTLP receiver in a process of its own, which counts them.
"""

import argparse
import asyncio
import os
import statistics

import aiohttp
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.daemon import process, responses, separate_cores
from bench.throughput import measure
from tests.broker import free_ports

SAMPLED = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}


async def main() -> None:
    options = _options()
    if options.receive:
        await receive(options.receive)
        return
    core = separate_cores()
    (port,) = free_ports(1)
    receiver = f"http://127.0.0.1:{port}"
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver}
    modes = {"off": dict[str, str](), "on": endpoint, "a tenth": endpoint | SAMPLED}
    spent: dict[str, list[float]] = {mode: [] for mode in modes}
    async with process("-m", "bench.traces", "--receive", str(port)), aiohttp.ClientSession() as http:
        await responses(http, f"{receiver}/spans")
        for pair in range(1, options.pairs + 1):
            for mode, variables in modes.items():
                os.environ.update(variables)
                figures = await measure("bridge", options.requests, core)
                for name in variables:
                    del os.environ[name]
                async with http.get(f"{receiver}/spans") as response:
                    spans = int(await response.text())
                spent[mode].append(figures.cpu_ms_per_run)
                print(f"pair {pair}  {mode:8} {figures}   {spans / options.requests:4.2f} spans per run", flush=True)
    for mode, found in spent.items():
        ratios = [one / off for one, off in zip(found, spent["off"], strict=True)]
        print(
            f"median   {mode:8} CPU {statistics.median(found):5.2f} ms per run   {statistics.median(ratios):5.3f} times"
        )


async def receive(port: int) -> None:
    """Count the spans that arrive; `GET /spans` returns the number since the last call."""
    count = 0

    async def take(request: web.Request) -> web.Response:
        nonlocal count
        export = ExportTraceServiceRequest.FromString(await request.read())
        count += sum(len(scope.spans) for resource in export.resource_spans for scope in resource.scope_spans)
        return web.Response()

    async def show(_: web.Request) -> web.Response:
        nonlocal count
        shown, count = count, 0
        return web.Response(text=str(shown))

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", take)
    app.router.add_get("/spans", show)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--receive", type=int, metavar="PORT", help="be the receiver")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
