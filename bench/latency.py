"""Latency of a request and a result at a steady rate, over RabbitMQ and over HTTP.

`python -m bench.latency --seconds 30`. Broker, crew, bridge, and load share the machine. Printed in milliseconds:

- *to the crew*: from the publish of a request to its POST at the crew API;
- *to the queue*: from the crew's response with the end to the event in a queue of the results exchange;
- *HTTP response*: from `POST /v1/runs` to its response, by which the request is stored.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import aio_pika
import aiohttp
import orjson
import uvloop

from bench.daemon import figures, process, responses
from bench.throughput import Setup, consumed, declare, request
from tests.broker import free_ports, running_broker

RUN_TIME = 0.3
BY_BROKER, BY_HTTP = 40, 200  # requests per second


@dataclass
class Times:
    """Times in seconds since the epoch, by message id."""

    published: dict[str, float] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)
    kickoff_ids: dict[str, str] = field(default_factory=dict)


async def main() -> None:
    seconds = _options().seconds
    with tempfile.TemporaryDirectory() as folder, running_broker() as broker:
        crew_port, bridge_port = free_ports(2)
        setup = Setup(Path(folder), broker, f"http://127.0.0.1:{crew_port}", bridge_port)
        await declare(broker.url)
        async with (
            process("-m", "bench.crew", "--port", str(crew_port), "--run-time", str(RUN_TIME)),
            process(*setup.command("bridge")),
            aiohttp.ClientSession() as http,
        ):
            await responses(http, f"http://127.0.0.1:{bridge_port}/healthz")
            await _by_broker(setup, http, seconds)
            await _by_http(f"http://127.0.0.1:{bridge_port}/v1/runs", http, seconds)


async def _by_broker(setup: Setup, http: aiohttp.ClientSession, seconds: int) -> None:
    times, requests = Times(), seconds * BY_BROKER
    connection = await aio_pika.connect(setup.broker.url)
    async with connection:
        await consumed(connection, "kickoff.requests")
        channel = await connection.channel()
        all_arrived = await _results(channel, times, requests)

        async def publish(number: int) -> None:
            message = request("bridge", number)
            times.published[f"m-{number}"] = time.time()
            await channel.default_exchange.publish(message, "kickoff.requests")

        await _steadily(requests, BY_BROKER, publish)
        await all_arrived
    crew = await figures(http, setup.crew)
    kickoffs = times.kickoff_ids
    _print("to the crew", (crew["started"][kickoffs[one]] - at for one, at in times.published.items()))
    _print("to the queue", (at - crew["reported_ends"][kickoffs[one]] for one, at in times.arrived.items()))


async def _results(channel: aio_pika.abc.AbstractChannel, times: Times, requests: int) -> asyncio.Future[None]:
    """Record each result; done when this many have arrived."""
    queue = await channel.declare_queue("bench.results", durable=True)
    await queue.bind("kickoff.results", "#")
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def note(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        assert message.correlation_id is not None
        times.arrived[message.correlation_id] = time.time()
        times.kickoff_ids[message.correlation_id] = orjson.loads(message.body)["data"]["kickoff_id"]
        if len(times.arrived) == requests:
            done.set_result(None)

    await queue.consume(note, no_ack=True)
    return done


async def _by_http(url: str, http: aiohttp.ClientSession, seconds: int) -> None:
    took = list[float]()

    async def post(number: int) -> None:
        began = time.perf_counter()
        async with http.post(url, json={"crew": "bench", "inputs": {"topic": str(number)}}) as response:
            assert response.status == 202, await response.text()
        took.append(time.perf_counter() - began)

    await _steadily(seconds * BY_HTTP, BY_HTTP, post)
    _print("HTTP response", took)


async def _steadily(calls: int, per_second: int, call: Callable[[int], Awaitable[None]]) -> None:
    """Start this many calls at even intervals, whether or not the earlier ones have ended."""
    began, under_way = time.perf_counter(), []
    for number in range(calls):
        await asyncio.sleep(max(began + number / per_second - time.perf_counter(), 0))
        under_way.append(asyncio.ensure_future(call(number)))
    await asyncio.gather(*under_way)


def _print(what: str, seconds: Iterable[float]) -> None:
    cuts = statistics.quantiles(seconds, n=100)
    shown = "   ".join(f"p{percent} {cuts[percent - 1] * 1000:6.1f}" for percent in (50, 95, 99))
    print(f"{what:13} {shown} ms", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
