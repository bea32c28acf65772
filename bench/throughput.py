"""Thousands of concurrent requests over RabbitMQ, with the bridge and with alternatives, in one run.

`python -m bench.throughput --requests 5000 --rounds 3`. Broker, crew, contender, and load share the machine; compare
ratios within one run. Printed per contender: runs per second from the first publish to the last result, CPU per run of
the contender's process (without that of a database), and its memory per outstanding run. The Celery worker takes part
where Celery is installed.
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from importlib.util import find_spec
from pathlib import Path

import aio_pika
import aiohttp
import orjson

from bench.bars import draw_bars
from bench.daemon import cpu, memory, peak, process, write_settings
from bridge.adapters.amqp.topology import Topology, ensure_inbound, ensure_outbound
from tests.broker import Broker, free_ports, running_broker
from tests.postgres import running_postgres

RUN_TIME = 0.3
POLL_INTERVAL = "1s"
CELERY = "kickoff.celery"
CONTENDERS = ["bridge", "script", "bare", "trigger_loop", *(["celery_worker"] if find_spec("celery") else [])]


@dataclass(frozen=True)
class Figures:
    """The result of one round."""

    runs_per_second: float
    cpu_ms_per_run: float
    kib_per_run: float
    polls_per_run: float

    def __str__(self) -> str:
        return (
            f"{self.runs_per_second:7.0f} runs/s   CPU {self.cpu_ms_per_run:5.2f} ms per run   "
            f"{self.kib_per_run:6.1f} KiB per run   {self.polls_per_run:4.2f} polls per run"
        )


@dataclass(frozen=True)
class Setup:
    """The setup of one round."""

    folder: Path
    broker: Broker
    crew: str
    bridge_port: int
    database: str | None = None

    def command(self, contender: str) -> Sequence[str]:
        """The arguments of Python."""
        if contender == "bridge":
            return ("-m", "bridge", "run", "--config", str(self._settings()))
        database = () if self.database is None else (self.database,)
        return ("-m", f"bench.rivals.{contender}", self.broker.url, self.crew, *database)

    def _settings(self) -> Path:
        crews = {"bench": {"url": self.crew, "poll": {"min_interval": POLL_INTERVAL, "max_interval": POLL_INTERVAL}}}
        return write_settings(self.folder, self.bridge_port, crews, amqp={"url": self.broker.url, "prefetch": 1000})


async def main() -> None:
    options = _options()
    rounds: dict[str, list[Figures]] = {contender: [] for contender in options.contenders}
    for number in range(1, options.rounds + 1):
        for contender, figures in rounds.items():
            figures.append(await _round(contender, options.requests))
            print(f"round {number}  {contender:13} {figures[-1]}", flush=True)
    medians = {contender: _median(figures) for contender, figures in rounds.items()}
    for contender, median in medians.items():
        ratio = medians["bridge"].runs_per_second / median.runs_per_second if "bridge" in medians else float("nan")
        print(f"median   {contender:13} {median}   bridge is {ratio:4.2f} times as fast")
    if options.picture is not None:
        options.picture.write_text(draw_bars("runs per second, and CPU per run", _bars(medians)))


async def _round(contender: str, requests: int) -> Figures:
    with tempfile.TemporaryDirectory() as folder, running_broker() as broker, _database(contender) as database:
        crew_port, bridge_port = free_ports(2)
        setup = Setup(Path(folder), broker, f"http://127.0.0.1:{crew_port}", bridge_port, database)
        await declare(broker.url)
        async with (
            process("-m", "bench.crew", "--port", str(crew_port), "--run-time", str(RUN_TIME)),
            process(*setup.command(contender)) as started,
        ):
            return await _measure(contender, setup, started.pid, requests)


@contextlib.contextmanager
def _database(contender: str) -> Iterator[str | None]:
    """For contenders that need it: an empty PostgreSQL with default durability."""
    if contender != "trigger_loop":
        yield None
        return
    with running_postgres(fsync="on", full_page_writes="on") as server:
        yield server.url("postgres")


async def _measure(contender: str, setup: Setup, pid: int, requests: int) -> Figures:
    connection = await aio_pika.connect(setup.broker.url)
    async with connection:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=1000)
        queue = CELERY if contender == "celery_worker" else "kickoff.requests"
        await consumed(connection, queue)
        arrivals = await count_results(channel, requests)
        idle = memory(pid)
        before, began = cpu(pid), time.perf_counter()
        for number in range(requests):
            await channel.default_exchange.publish(request(contender, number), queue)
        await arrivals
        took, spent = time.perf_counter() - began, cpu(pid) - before
        grown = peak(pid) - idle
        async with aiohttp.ClientSession() as http, http.get(f"{setup.crew}/_figures") as response:
            seen = await response.json()
    assert len(seen["started"]) == requests, "each request is POSTed once"
    return Figures(requests / took, spent * 1000 / requests, grown / 1024 / requests, seen["polls"] / requests)


async def count_results(channel: aio_pika.abc.AbstractChannel, requests: int) -> asyncio.Future[None]:
    """Done when this many results have arrived."""
    queue = await channel.declare_queue("bench.results", durable=True)
    await queue.bind("kickoff.results", "#")
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    count = 0

    async def on_result(_: aio_pika.abc.AbstractIncomingMessage) -> None:
        nonlocal count
        count += 1
        if count == requests:
            done.set_result(None)

    await queue.consume(on_result, no_ack=True)
    return done


async def declare(url: str) -> None:
    """The topology that the bridge declares itself, for the other contenders."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await ensure_inbound(channel, Topology())
        await ensure_outbound(channel, Topology())


async def consumed(connection: aio_pika.abc.AbstractConnection, queue: str, by: int = 1) -> None:
    """Wait until there are this many consumers."""
    while True:
        channel = await connection.channel()
        with contextlib.suppress(aio_pika.exceptions.ChannelNotFoundEntity):
            if (await channel.declare_queue(queue, passive=True)).declaration_result.consumer_count == by:
                return
        await asyncio.sleep(0.05)


def request(contender: str, number: int) -> aio_pika.Message:
    """A request in the format of this contender."""
    request_body = {"crew": "bench", "inputs": {"topic": str(number)}}
    message_id = f"m-{number}"
    if contender != "celery_worker":
        return aio_pika.Message(orjson.dumps(request_body), message_id=message_id, delivery_mode=2)
    headers: aio_pika.abc.HeadersType = {"task": "bench.kickoff", "id": message_id, "lang": "py"}
    body = orjson.dumps([[request_body], {}, {}])  # version 2 of Celery's messages: positional, named, embedded
    return aio_pika.Message(
        body,
        headers=headers,
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id=message_id,
        delivery_mode=2,
    )


def _bars(medians: Mapping[str, Figures]) -> dict[str, tuple[float, str]]:
    return {
        contender.replace("_", " "): (
            one.runs_per_second, f"{one.runs_per_second:,.0f} per second, {one.cpu_ms_per_run:.2f} ms"
        )
        for contender, one in medians.items()
    }  # fmt: skip


def _median(figures: Sequence[Figures]) -> Figures:
    columns = zip(*(astuple(one) for one in figures), strict=True)
    assert len(fields(Figures)) == len(astuple(figures[0]))
    return Figures(*(statistics.median(column) for column in columns))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS)
    parser.add_argument("--picture", type=Path, help="draw the medians into this file (SVG)")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
