"""Harness of system tests: the real daemon as a process, producers and a consumer of events, and checks."""

import asyncio
import contextlib
import json
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import yaml

from tests.broker import free_ports
from tests.patience import PATIENCE, patience_with

RESULTS = "acceptance.results"
DEAD = "kickoff.dead"
NEEDED = ("store", "broker_in", "broker_out")


def free_port() -> int:
    """Return an unused port."""
    return free_ports(1)[0]


async def eventually(met: Callable[[], Awaitable[bool]], what: str, within: float = PATIENCE) -> None:
    """Return as soon as the condition holds; otherwise fail with the description."""
    deadline = time.monotonic() + within
    while not await met():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.05)


class Daemon:
    """`kickoff-bridge run` in a process of its own, with a persistent folder. `buggy`: a bug is expected."""

    buggy = False
    options: Sequence[str] = ()  # of the command `run`

    def __init__(
        self,
        folder: Path,
        crew_url: str,
        crew_settings: Mapping[str, Any] | None = None,
        *,
        port: int | None = None,
        **settings: Any,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        crew = {
            "url": crew_url,
            "token": "sandbox-token",
            "max_running": 400,
            "requests_per_second": 2000,
            "poll": {"min_interval": "300ms", "max_interval": "300ms"},
            **(crew_settings or {}),
        }
        folder.mkdir(exist_ok=True)
        self._file = folder / "bridge.yaml"
        self._log = folder / "bridge.log"
        self._document = {
            "http": {"port": self.port},
            "store": {"url": f"sqlite:///{folder}/bridge.db"},
            "crews": {"research": crew},
            **settings,
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def change(self, **settings: Any) -> None:
        """Use other settings from the next start on."""
        self._document |= settings

    async def reload(self, **settings: Any) -> dict[str, Any]:
        """Write other settings, and make the daemon read them; return the log event that reports the result."""
        self.change(**settings)
        seen = len(self._reloads())
        self._file.write_text(yaml.safe_dump(self._document))
        self.send(signal.SIGHUP)

        async def reported() -> bool:
            return len(self._reloads()) > seen

        await eventually(reported, "the settings have been read")
        return self._reloads()[-1]

    def _reloads(self) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [entry for entry in entries if entry["event"] in {"settings_reloaded", "settings_rejected"}]

    def command(self) -> list[str]:
        return [sys.executable, "-m", "bridge", "run", *self.options, "--config", str(self._file)]

    async def start(self) -> None:
        await self.spawn()
        await eventually(self.is_ready, "the daemon is ready")

    async def spawn(self) -> None:
        self._file.write_text(yaml.safe_dump(self._document))
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self.command(), stderr=log, stdout=log)

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.ask_to_stop()
        return await self.ended()

    async def ended(self) -> int:
        """Wait for the end of the process; return the exit code."""
        assert self._process is not None
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()

    def ask_to_stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    async def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(TimeoutError):
                await self.terminate()
            if self._process.returncode is None:
                await self.kill()
        if self._log.exists() and not self.buggy:
            assert self.log_events()["item_quarantined"] == 0, "quarantine must hide no bug from a test"

    async def get(self, path: str) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            text = await response.text()
            return response.status, json.loads(text) if "json" in response.content_type else text

    async def all_runs(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            _, page = await self.get(f"/v1/runs?limit=200{cursor}")
            found += page["runs"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    async def count(self, *states: str) -> int:
        """The number of runs in these states."""
        return sum(run["state"] in states for run in await self.all_runs())

    async def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        _, text = await self.get("/metrics")
        return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))

    def log_tail(self) -> str:
        return self._log.read_text()[-2000:] if self._log.exists() else ""

    def log(self) -> str:
        return self._log.read_text()

    def log_events(self) -> Counter[str]:
        lines = [line for line in self.log().splitlines() if line.startswith("{")]
        return Counter(json.loads(line)["event"] for line in lines)

    async def is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self.log_tail()
        with contextlib.suppress(aiohttp.ClientError):
            return works(await self.get("/readyz"))
        return False


def works(ready: tuple[int, Any]) -> bool:
    """Whether the store and every connection to the broker work, according to `/readyz`."""
    status, document = ready
    return status == 200 and all(part["ok"] for name, part in document["parts"].items() if name in NEEDED)


@asynccontextmanager
async def channel(url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    connection = await aio_pika.connect(url, timeout=PATIENCE)
    try:
        yield await connection.channel(publisher_confirms=True, on_return_raises=True)
    finally:
        with contextlib.suppress(Exception):
            await connection.close()


async def bind_results(url: str) -> None:
    """A durable queue that keeps every event until the test reads it."""
    async with channel(url) as ch:
        exchange = await ch.declare_exchange("kickoff.results", "topic", durable=True)
        queue = await ch.declare_queue(RESULTS, durable=True)
        await queue.bind(exchange, "#")


async def publish(url: str, requests: Iterable[dict[str, Any]], *, retry: bool = False) -> None:
    """Publish kickoff requests with confirms, `message_id` from the key.

    A retrying producer repeats until confirmed.
    """
    waiting = list(requests)
    while waiting:
        try:
            async with channel(url) as ch:
                exchange = await ch.get_exchange("kickoff.requests")
                while waiting:
                    body = json.dumps(waiting[0]).encode()
                    message_id = waiting[0]["inputs"]["n"]
                    message = aio_pika.Message(body, message_id=message_id, delivery_mode=2)
                    await exchange.publish(message, "research", timeout=PATIENCE)
                    waiting.pop(0)
        except (OSError, TimeoutError, aio_pika.exceptions.AMQPError, aio_pika.exceptions.ChannelInvalidStateError):
            if not retry:
                raise
            await asyncio.sleep(0.2)


@dataclass
class Results:
    """Every received completion event, by id."""

    bodies: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    copies: Counter[str] = field(default_factory=Counter)

    def final_events(self) -> dict[str, list[str]]:
        """Run id → types of the distinct final events."""
        final = {"run.succeeded", "run.failed", "run.timed_out", "run.cancelled"}
        found: dict[str, list[str]] = defaultdict(list)
        for bodies in self.bodies.values():
            event = json.loads(next(iter(bodies)))
            if event["type"] in final:
                found[event["data"]["run_id"]].append(event["type"])
        return found

    @property
    def duplicates(self) -> int:
        return sum(count - 1 for count in self.copies.values())


async def drain(url: str, expected: int) -> Results:
    """Read the results queue until this many distinct events have arrived and the queue is empty."""
    results = Results()
    deadline = time.monotonic() + patience_with(expected)
    async with channel(url) as ch:
        queue = await ch.declare_queue(RESULTS, passive=True)
        while True:
            message = await queue.get(no_ack=True, fail=False)
            if message is not None:
                assert message.message_id is not None
                results.bodies[message.message_id].add(message.body)
                results.copies[message.message_id] += 1
            elif len(results.bodies) >= expected:
                return results
            else:
                assert time.monotonic() < deadline, f"{len(results.bodies)} of {expected} events"
                await asyncio.sleep(0.1)


async def ledger(crew_url: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{crew_url}/_ledger") as response:
        found: dict[str, Any] = await response.json()
        return found


REFUSALS = {400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 503, *range(300, 400)}


def posts_per_request(found: dict[str, Any]) -> Counter[str]:
    """The number of POSTs per request that were not certainly refused, by the number in its inputs."""
    read = [entry for entry in found["kickoffs"] if entry["inputs"] is not None]
    return Counter(
        entry["inputs"]["n"] for entry in read if entry["kickoff_id"] is not None or entry["answered"] not in REFUSALS
    )
