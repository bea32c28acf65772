"""CPU of each step of a run, so that a regression can be located.

`python -m bench.steps --runs 2000 --at-once 64`. The steps of one process against a real broker, a real SQLite store,
and the crew of `bench.crew`, one step at a time; printed in microseconds of CPU per run, of the event loop and of all
other threads, which are those of the store.
"""

import argparse
import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import uvloop

from bench.daemon import process, responses, write_settings
from bench.throughput import declare, request
from bridge.adapters.amqp.consumer import AmqpConsumer
from bridge.composition.amqp import Broker as BrokerParts
from bridge.composition.crews import build_crews
from bridge.composition.runtime import Runtime, open_runtime
from bridge.config import load
from bridge.observability import logging as logs
from bridge.ports.lifecycle import Service, Step
from bridge.steps.runs.input_check import CrewInputs
from tests.broker import free_ports, running_broker

CREW = "bench"
POLL_INTERVAL = "1s"
ALL_DUE = 2.5  # seconds, after which the next poll of every run is due


class Meter:
    """Adds up the CPU of named steps, in seconds: of the event loop, and of the other threads."""

    def __init__(self) -> None:
        self.loop: defaultdict[str, float] = defaultdict(float)
        self.others: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure what runs inside the block."""
        thread, everything = time.thread_time(), time.process_time()
        yield
        thread, everything = time.thread_time() - thread, time.process_time() - everything
        self.loop[name] += thread
        self.others[name] += everything - thread

    def print(self, runs: int) -> None:
        """Print a line for each step and one for the sum."""
        for name in self.loop:
            self._line(name, self.loop[name] / runs, self.others[name] / runs)
        self._line("together", sum(self.loop.values()) / runs, sum(self.others.values()) / runs)

    @staticmethod
    def _line(name: str, loop: float, others: float) -> None:
        print(f"{name:36} {(loop + others) * 1e6:6.0f} µs   loop {loop * 1e6:6.0f}   store {others * 1e6:6.0f}")


async def main() -> None:
    options = _options()
    logs.configure("warning", "json")
    with tempfile.TemporaryDirectory() as folder, running_broker() as broker:
        crew_port, bridge_port = free_ports(2)
        crew = f"http://127.0.0.1:{crew_port}"
        await declare(broker.url)
        crews = {CREW: {"url": crew, "poll": {"min_interval": POLL_INTERVAL, "max_interval": POLL_INTERVAL}}}
        amqp = {"url": broker.url, "prefetch": 1000}
        settings = load(write_settings(Path(folder), bridge_port, crews, amqp=amqp))
        async with (
            process("-m", "bench.crew", "--port", str(crew_port), "--run-time", "3600"),
            aiohttp.ClientSession() as http,
            AsyncExitStack() as stack,
        ):
            await responses(http, f"{crew}/inputs")
            runtime = await open_runtime(settings, stack, migrate=True)
            await build_crews(runtime, stack)
            assert settings.amqp is not None
            parts = BrokerParts(runtime, settings.amqp, CrewInputs(runtime.crews, runtime.clock))
            await _publish(broker.url, options.runs)
            meter = Meter()
            await _measure(meter, runtime, parts, http, crew, options.runs, options.at_once)
            meter.print(options.runs)


async def _publish(url: str, runs: int) -> None:
    """Publish the requests, and bind a queue for the results."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        results = await channel.declare_queue("bench.results", durable=True)
        await results.bind("kickoff.results", "#")
        for number in range(runs):
            await channel.default_exchange.publish(request("bridge", number), "kickoff.requests")


async def _measure(
    meter: Meter, runtime: Runtime, parts: BrokerParts, http: aiohttp.ClientSession, crew: str, runs: int, at_once: int
) -> None:
    steps, bench = runtime.steps, runtime.crews[CREW]
    kickoff, poll, deliver = steps.kickoff(bench), steps.poll(bench), steps.deliver_broker(parts.sender)
    with meter("accept (message, store, ack)"):
        await _consume(parts.consumers["broker_in"], runtime, runs)
    started = 0
    while started < runs:
        with meter("claim"):
            claimed = await kickoff.claim(at_once)
        with meter("POST, and its write"):
            await asyncio.gather(*map(kickoff.handle, claimed))
        started += len(claimed)
    for what in ("first poll, and its write", "poll without a change"):
        await asyncio.sleep(ALL_DUE)
        with meter(what):
            await _handle_all(poll, runs, at_once)
    async with http.post(f"{crew}/_end"):
        pass
    publishing = asyncio.create_task(parts.publisher.run())
    while not parts.publisher.ready:  # noqa: ASYNC110 - a connection, which notifies nothing
        await asyncio.sleep(0.01)
    await deliver.claim(at_once)
    await asyncio.sleep(ALL_DUE)
    for _ in range(0, runs, at_once):
        with meter("last poll, and the write of the end"):
            await _handle(poll, at_once)
        with meter("delivery, and its write"):
            while await _handle(deliver, at_once):
                pass
    parts.publisher.stop()
    await publishing


async def _consume(consumer: AmqpConsumer, runtime: Runtime, runs: int) -> None:
    """Run the consumer until it has accepted so many requests."""

    async def accept_all() -> None:
        accepted = {"via": "amqp", "outcome": "accepted"}
        while runtime.counters.registry.get_sample_value("kickoff_bridge_requests_total", accepted) != runs:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        consumer.stop()

    await asyncio.gather(_run(consumer), accept_all())


async def _run(service: Service) -> None:
    await service.run()


async def _handle_all(step: Step[Any], runs: int, at_once: int) -> None:
    handled = 0
    while handled < runs:
        handled += await _handle(step, min(at_once, runs - handled))


async def _handle(step: Step[Any], limit: int) -> int:
    items = await step.claim(limit)
    await asyncio.gather(*map(step.handle, items))
    return len(items)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
