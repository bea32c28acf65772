"""Thousands of concurrent requests over RabbitMQ, with the bridge and with alternatives, in one run.

`python -m bench.throughput --requests 5000 --rounds 3 --tls`. The contender has one core for itself, where there are
several, with its store or database on it; broker, crew, and load share the others. Compare ratios within one run.
Printed per contender: runs per second from the first publish to the last result, CPU per run of the contender's process
and database, and the process's memory per outstanding run. Celery and FastStream take part where they are installed.
`--tls` repeats all of it with a crew behind TLS.
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
from bench.daemon import cpu, cpu_of_tree, memory, peak, pin_tree, process, separate_cores, write_settings
from bridge.adapters.amqp.topology import Topology, ensure_inbound, ensure_outbound
from tests.broker import Broker, free_ports, running_broker
from tests.certificates import Files
from tests.postgres import PostgresServer, running_postgres

RUN_TIME = 0.3
POLL_INTERVAL = "1s"
CELERY = "kickoff.celery"
OPTIONAL = {"faststream_app": "faststream", "celery_worker": "celery"}
CONTENDERS = [
    "bridge", "script", "floor", "bare", "trigger_loop", "row_loop",
    *(name for name, of in OPTIONAL.items() if find_spec(of)),
]  # fmt: skip


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
    database: PostgresServer | None = None
    certificates: Files | None = None

    @property
    def trusting(self) -> dict[str, str]:
        """The environment of a process that trusts the crew's certificate."""
        names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
        return {} if self.certificates is None else dict.fromkeys(names, self.certificates.ca)

    def command(self, contender: str) -> Sequence[str]:
        """The arguments of Python."""
        if contender == "bridge":
            return ("-m", "bridge", "run", "--config", str(self._settings()))
        database = () if self.database is None else (self.database.url("postgres"),)
        return ("-m", f"bench.rivals.{contender}", self.broker.url, self.crew, *database)

    def _settings(self) -> Path:
        crews = {"bench": {"url": self.crew, "poll": {"min_interval": POLL_INTERVAL, "max_interval": POLL_INTERVAL}}}
        return write_settings(self.folder, self.bridge_port, crews, amqp={"url": self.broker.url, "prefetch": 1000})


async def main() -> None:
    options = _options()
    core = separate_cores()
    for tls in (False, True) if options.tls else (False,):
        medians = await _compare(options, core, tls=tls)
        if options.picture is not None and not tls:
            options.picture.write_text(draw_bars("runs per second, and CPU per run", _bars(medians)))


async def _compare(options: argparse.Namespace, core: int | None, *, tls: bool) -> dict[str, Figures]:
    """Print the rounds of every contender, then the medians, and return these."""
    rounds: dict[str, list[Figures]] = {contender: [] for contender in options.contenders}
    named = "TLS  " if tls else "plain"
    for number in range(1, options.rounds + 1):
        for contender, figures in rounds.items():
            figures.append(await measure(contender, options.requests, core, tls=tls))
            print(f"{named}  round {number}  {contender:14} {figures[-1]}", flush=True)
    medians = {contender: _median(figures) for contender, figures in rounds.items()}
    for contender, median in medians.items():
        ratio = medians["bridge"].runs_per_second / median.runs_per_second if "bridge" in medians else float("nan")
        print(f"{named}  median   {contender:14} {median}   bridge is {ratio:4.2f} times as fast", flush=True)
    return medians


async def measure(contender: str, requests: int, core: int | None, *, tls: bool = False) -> Figures:
    """One round with a new broker and a new store; `core`: where the contender runs."""
    with tempfile.TemporaryDirectory() as name, running_broker() as broker, _database(contender, core) as database:
        folder, (crew_port, bridge_port) = Path(name), free_ports(2)
        certificates = Files(folder, "localhost") if tls else None
        crew = f"https://localhost:{crew_port}" if tls else f"http://127.0.0.1:{crew_port}"
        setup = Setup(folder, broker, crew, bridge_port, database, certificates)
        await declare(broker.url)
        encrypted = ("--tls", name) if tls else ()
        async with (
            process("-m", "bench.crew", "--port", str(crew_port), "--run-time", str(RUN_TIME), *encrypted),
            process(*setup.command(contender), core=core, **setup.trusting) as started,
        ):
            return await _measure(contender, setup, started.pid, requests)


def _spent(setup: Setup, pid: int) -> float:
    """The CPU seconds of the contender and its database."""
    return cpu(pid) + (0.0 if setup.database is None else cpu_of_tree(setup.database.pid))


@contextlib.contextmanager
def _database(contender: str, core: int | None) -> Iterator[PostgresServer | None]:
    """For contenders that need it: an empty PostgreSQL with default durability, on the contender's core."""
    if contender not in {"trigger_loop", "row_loop"}:
        yield None
        return
    with running_postgres(fsync="on", full_page_writes="on") as server:
        if core is not None:
            pin_tree(server.pid, core)
        yield server


async def _measure(contender: str, setup: Setup, pid: int, requests: int) -> Figures:
    connection = await aio_pika.connect(setup.broker.url)
    async with connection:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=1000)
        queue = CELERY if contender == "celery_worker" else "kickoff.requests"
        await consumed(connection, queue)
        arrivals = await count_results(channel, requests)
        idle = memory(pid)
        before, began = _spent(setup, pid), time.perf_counter()
        for number in range(requests):
            await channel.default_exchange.publish(request(contender, number), queue)
        await arrivals
        took, spent = time.perf_counter() - began, _spent(setup, pid) - before
        grown = peak(pid) - idle
        async with aiohttp.ClientSession() as http, http.get(f"{setup.crew}/_figures", ssl=False) as response:
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
    parser.add_argument("--tls", action="store_true", help="also with a crew behind TLS")
    parser.add_argument("--picture", type=Path, help="draw the medians into this file (SVG)")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
