"""One and two bridges on one PostgreSQL and one RabbitMQ, with the CPU of each part, in one run.

`python -m bench.several --requests 3000 --rounds 2`. Everything shares the machine, so the figure that counts is the
CPU of each part per run: it shows how many runs per second one core of that part supports. What the sessions of
PostgreSQL do meanwhile is sampled, to show what they wait for.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import aiohttp
import psycopg
import uvloop

from bench.daemon import bridge_process, cpu, cpu_of_tree, figures, process, responses, write_settings
from bench.throughput import consumed, count_results, declare, request
from tests.broker import free_ports, running_broker
from tests.postgres import running_postgres

RUN_TIME = 0.3
SAMPLE_INTERVAL = 0.02
ACTIVITY = """
SELECT CASE WHEN state = 'active' THEN coalesce(wait_event, 'on the CPU') ELSE state END, count(*)
FROM pg_stat_activity
WHERE datname = 'bench' AND pid <> pg_backend_pid() AND (state = 'active' OR state LIKE 'idle in transaction%')
GROUP BY 1"""


@dataclass(frozen=True)
class Parts:
    """Process ids."""

    bridges: Sequence[int]
    crew: int
    postgres: int
    broker: int

    def cpu(self) -> dict[str, float]:
        """Seconds so far."""
        bridges = {f"bridge {number}": cpu(pid) for number, pid in enumerate(self.bridges, 1)}
        rest = {"PostgreSQL": cpu_of_tree(self.postgres), "RabbitMQ": cpu_of_tree(self.broker), "crew": cpu(self.crew)}
        return bridges | rest


async def main() -> None:
    options = _options()
    for number in range(1, options.rounds + 1):
        for bridges in options.bridges:
            with tempfile.TemporaryDirectory() as folder:
                print(f"round {number}, {bridges} bridges: {await _round(Path(folder), bridges, options.requests)}")


async def _round(folder: Path, bridges: int, requests: int) -> str:
    crew_port, *ports = free_ports(1 + bridges)
    crew = f"http://127.0.0.1:{crew_port}"
    with running_broker() as broker, running_postgres(fsync="on", full_page_writes="on") as postgres:
        postgres.execute("CREATE DATABASE bench")
        await declare(broker.url)
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(aiohttp.ClientSession())
            crew_process = await stack.enter_async_context(
                process("-m", "bench.crew", "--port", str(crew_port), "--run-time", str(RUN_TIME))
            )
            pids = []
            for port in ports:
                settings = _settings(folder, crew, port, broker.url, postgres.url("bench"))
                pids.append((await stack.enter_async_context(bridge_process(settings))).pid)
                await responses(http, f"http://127.0.0.1:{port}/healthz")
            parts = Parts(pids, crew_process.pid, postgres.pid, broker.pid)
            sampling = asyncio.create_task(_sample(postgres.url("bench")))
            took, spent = await _measure(parts, broker.url, requests)
            sampling.cancel()
            sessions = await sampling
            seen = await figures(http, crew)
    assert len(seen["started"]) == requests, "each request is POSTed once"
    each = ", ".join(f"{part} {seconds * 1000 / requests:.2f}" for part, seconds in spent.items())
    busy = ", ".join(f"{what} {mean:.2f}" for what, mean in sessions.items())
    return (
        f"{requests / took:.0f} runs/s; ms of CPU per run: {each}; {seen['polls'] / requests:.2f} polls per run; "
        f"sessions of PostgreSQL, on average: {busy}"
    )


async def _sample(url: str) -> dict[str, float]:
    """The mean number of sessions by what they do or wait for, until cancelled."""
    found, samples = Counter[str](), 0
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        try:
            while True:
                rows = await (await connection.execute(ACTIVITY)).fetchall()
                found.update(dict(rows))
                samples += 1
                await asyncio.sleep(SAMPLE_INTERVAL)
        except asyncio.CancelledError:
            return {what: count / samples for what, count in found.most_common()}


async def _measure(parts: Parts, broker: str, requests: int) -> tuple[float, dict[str, float]]:
    """Seconds from the first message to the last result, and the CPU of each part meanwhile."""
    connection = await aio_pika.connect(broker)
    async with connection:
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=1000)
        await consumed(connection, "kickoff.requests", len(parts.bridges))
        arrivals = await count_results(channel, requests)
        before, began = parts.cpu(), time.perf_counter()
        for number in range(requests):
            await channel.default_exchange.publish(request("bridge", number), "kickoff.requests")
        await arrivals
        took, after = time.perf_counter() - began, parts.cpu()
    return took, {part: after[part] - seconds for part, seconds in before.items()}


def _settings(folder: Path, crew: str, port: int, broker: str, store: str) -> Path:
    crews = {"bench": {"url": crew, "poll": {"min_interval": "1s", "max_interval": "1s"}}}
    return write_settings(folder, port, crews, amqp={"url": broker, "prefetch": 200}, store={"url": store})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bridges", type=int, nargs="+", default=[1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(main())
