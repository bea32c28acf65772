"""A complete installation under attack: the real daemon, broker, sandbox, and callback receiver, with its results."""

import asyncio
import json
import random
import signal
import sqlite3
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
from aiohttp import web

from tests.patience import PATIENCE
from tests.system.acceptance.harness import (
    DEAD,
    Daemon,
    Results,
    channel,
    drain,
    eventually,
    ledger,
    posts_per_request,
    publish,
)


class KillableDaemon(Daemon):
    """A daemon that kills itself at a given point."""

    def __init__(self, folder: Path, crew_url: str, crew_settings: dict[str, Any], **settings: Any) -> None:
        super().__init__(folder, crew_url, crew_settings, **settings)
        self._mark = folder / "mark"
        self._point = ["none", "0"]

    def command(self) -> list[str]:
        entry = [sys.executable, "-m", "tests.system.faults.daemon", *self._point, str(self._mark)]
        return [*entry, "run", "--config", str(self._file)]

    async def start(self, point: str = "none", nth: int = 1, *, until_ready: bool = True) -> None:
        """Start; with a point, the process will kill itself there."""
        self._point = [point, str(nth)]
        self._mark.unlink(missing_ok=True)
        if until_ready:
            await super().start()
        else:
            await self.spawn()

    async def order(self, **order: Any) -> dict[str, Any]:
        """Give the running process an order, see `daemon.Orders`; return its response."""
        folder = self._mark.parent
        obeyed = folder / "obeyed"
        obeyed.unlink(missing_ok=True)
        (folder / "order").write_text(json.dumps(order))
        self.send(signal.SIGUSR1)
        async with asyncio.timeout(PATIENCE):
            while not obeyed.exists():
                assert self._process is None or self._process.returncode is None, (
                    f"died after an order: {self.log_tail()}"
                )
                await asyncio.sleep(0.01)
        response: dict[str, Any] = json.loads(obeyed.read_text())
        return response

    async def tasks(self) -> int:
        """The number of asyncio tasks of the process."""
        return int((await self.order())["tasks"])

    async def die_at(self, point: str, nth: int = 1) -> None:
        """From now on, the process will kill itself there."""
        self._point = [point, str(nth)]
        self._mark.unlink(missing_ok=True)
        await self.order(die_at=point, nth=nth)

    @property
    def store(self) -> str:
        url: str = self._document["store"]["url"]
        return url.removeprefix("sqlite:///")

    async def count(self, *states: str) -> int:
        """The number of runs in these states, from the store: the metrics may be seconds old."""
        marks = ", ".join("?" * len(states))
        return self.query(f"SELECT count(*) FROM runs WHERE state IN ({marks})", *states)

    def query(self, query: str, *values: str) -> int:
        """The only number that a query returns."""
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=PATIENCE)) as store:
            return int(store.execute(query, values).fetchone()[0])

    async def died(self) -> None:
        """Wait for the process to kill itself; a fault that did not happen fails the test."""
        await self.ended()
        assert self._mark.read_text() == self._point[0], f"died, but not at {self._point}: {self.log_tail()}"


@dataclass
class Receiver:
    """Accepts callbacks and keeps their ids and bytes; while `down` it responds like a server without its backend."""

    url: str = ""
    down: bool = False
    bodies: defaultdict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    copies: Counter[str] = field(default_factory=Counter)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.down:
            return web.Response(status=503)
        event_id = json.loads(body)["id"]
        self.bodies[event_id].add(body)
        self.copies[event_id] += 1
        return web.Response()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/done", found.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"{site.name}/done"
    try:
        yield found
    finally:
        await runner.cleanup()


@dataclass
class Tally:
    """One row of the table; `lost` and `unexpected` as in Jepsen's total-queue."""

    scenario: str
    requests: int = 0
    faults: int = 0
    lost: int = 0
    unexpected: int = 0
    most_posts: int = 0
    in_doubt: int = 0
    duplicates: int = 0
    unequal: int = 0
    slowest_recovery: float = 0.0

    def row(self) -> str:
        return (
            f"| {self.scenario} | {self.requests} | {self.faults} | {self.lost} | {self.most_posts} | {self.in_doubt} "
            f"| {self.duplicates} | {self.unequal} | {self.slowest_recovery:.1f} |"
        )


HEAD = "| Scenario | Requests | Faults | Lost | POSTs per run | In doubt | Duplicates | Unequal | Recovery (s) |"
RULE = "|---|---|---|---|---|---|---|---|---|"


def requests(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"crew": "research", "inputs": {"n": str(number)}} for number in range(start, start + count)]


async def submit(url: str, requested: list[dict[str, Any]]) -> None:
    """A retrying producer over HTTP: it repeats each request until the response is 202."""
    async with aiohttp.ClientSession() as session:
        for request in requested:
            headers = {"Idempotency-Key": request["inputs"]["n"]}
            while True:
                with suppress(aiohttp.ClientError, TimeoutError):
                    limit = aiohttp.ClientTimeout(total=30)
                    async with session.post(f"{url}/v1/runs", json=request, headers=headers, timeout=limit) as response:
                        if response.status == 202:
                            break
                await asyncio.sleep(0.1)


@dataclass
class Scenario:
    """Everything that one scenario needs."""

    daemon: KillableDaemon
    amqp: str
    crew_url: str
    receiver: Receiver
    rng: random.Random
    tally: Tally
    producers: list[asyncio.Task[None]] = field(default_factory=list)

    async def publish(self, requested: list[dict[str, Any]]) -> None:
        self.tally.requests += len(requested)
        await publish(self.amqp, requested, retry=True)

    def submit(self, requested: list[dict[str, Any]]) -> None:
        """Submit over HTTP, with a producer that repeats until it has a response, whatever dies meanwhile."""
        self.tally.requests += len(requested)
        self.producers.append(asyncio.create_task(submit(self.daemon.url, requested)))

    def submit_copies(self, requested: list[dict[str, Any]]) -> None:
        """The same requests once more, concurrently."""
        self.producers.append(asyncio.create_task(submit(self.daemon.url, requested)))

    async def posts(self) -> int:
        """The number of POSTs that have reached the crew."""
        return len((await ledger(self.crew_url))["kickoffs"])

    async def not_ready(self) -> bool:
        return not await self.daemon.is_ready()

    async def ready_again(self) -> None:
        """The bridge has recovered by itself; record how long it took."""
        began = time.monotonic()
        await eventually(self.daemon.is_ready, "the bridge is ready again")
        self.tally.slowest_recovery = max(self.tally.slowest_recovery, time.monotonic() - began)

    async def publish_one(self) -> None:
        """Publish a request with an unused number."""
        await self.publish(requests(1, start=1_000_000 + self.tally.requests))

    async def publish_nonsense(self) -> None:
        async with channel(self.amqp) as ch:
            exchange = await ch.get_exchange("kickoff.requests")
            await exchange.publish(aio_pika.Message(b"nonsense", delivery_mode=2), "research", timeout=PATIENCE)

    async def dead_letters(self) -> int:
        async with channel(self.amqp) as ch:
            queue = await ch.declare_queue(DEAD, passive=True)
            return queue.declaration_result.message_count or 0

    async def all_started(self) -> bool:
        return await self.daemon.count("running", "succeeded", "in_doubt") >= self.tally.requests

    async def one_under_way(self) -> bool:
        """Whether the bridge tracks a run, which a kill would leave behind."""
        return self.daemon.query("SELECT count(*) FROM runs WHERE state = 'running' AND owner IS NOT NULL") > 0

    async def recover(self) -> None:
        """Start after a death, and record the time until it is ready."""
        began = time.monotonic()
        await self.daemon.start()
        self.tally.slowest_recovery = max(self.tally.slowest_recovery, time.monotonic() - began)

    async def apply(self) -> None:
        """All faults are over: wait until everything has ended, drain the queue, and check."""
        count = self.tally.requests
        await self.come_to_rest()
        runs = await self.daemon.all_runs()
        in_doubt = {run["run_id"] for run in runs if run["state"] == "in_doubt"}
        results = await drain(self.amqp, await self._events())
        posts = posts_per_request(await ledger(self.crew_url))
        tally = self.tally
        tally.lost = count - len(runs)
        tally.unexpected = len(set(results.final_events()) - {run["run_id"] for run in runs})
        tally.most_posts = max(posts.values(), default=0)
        tally.in_doubt = len(in_doubt)
        tally.duplicates = results.duplicates + sum(count - 1 for count in self.receiver.copies.values())
        tally.unequal = sum(len(bodies) > 1 for bodies in self._bodies(results).values())
        self._judge(runs, results, in_doubt)

    async def come_to_rest(self, within: float = PATIENCE) -> None:
        """Every request is accepted, every run has ended or is in doubt, everything is delivered."""
        await asyncio.gather(*self.producers)
        count = self.tally.requests
        await eventually(lambda: self._at_rest(count), f"{count} runs at rest", within + count / 10)

    def _judge(self, runs: list[dict[str, Any]], results: Results, in_doubt: set[str]) -> None:
        tally = self.tally
        finals = results.final_events()
        assert tally.faults, "a fault test that never saw its fault proves nothing"
        assert (tally.lost, tally.unexpected, tally.unequal) == (0, 0, 0), tally
        assert tally.most_posts <= 1, tally
        assert set(finals) == {run["run_id"] for run in runs} - in_doubt
        assert all(len(types) == 1 for types in finals.values())
        called_back = {json.loads(next(iter(bodies)))["data"]["run_id"] for bodies in self.receiver.bodies.values()}
        assert set(finals) <= called_back, "some callbacks never came"

    def _bodies(self, results: Results) -> dict[str, set[bytes]]:
        """Every body that was received for an event id, over any channel."""
        ids = results.bodies.keys() | self.receiver.bodies.keys()
        return {event_id: results.bodies[event_id] | self.receiver.bodies[event_id] for event_id in ids}

    async def _at_rest(self, count: int) -> bool:
        try:
            finished = await self.daemon.count("succeeded", "failed", "timed_out", "cancelled", "in_doubt") >= count
            return finished and await self.nothing_pending()
        except aiohttp.ClientError:
            return False

    async def nothing_pending(self) -> bool:
        """Every delivery is done."""
        return self.daemon.query("SELECT count(*) FROM deliveries WHERE state = 'pending'") == 0

    async def _events(self) -> int:
        """The number of events published to the exchange: one per ended run."""
        return await self.daemon.count("succeeded", "failed", "timed_out", "cancelled")
