"""The real daemon under the memory limit of the manifest, with callers that try to make it hold gigabytes.

`RLIMIT_DATA` limits the memory that a process may write to. `RLIMIT_AS` would also count unused address space: each
thread reserves 8 MiB for its stack and up to 128 MiB for its arena.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import re
import resource
import socket
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import aio_pika
import aiohttp
import pytest
import yaml
from aiohttp import web

from bridge.adapters.amqp.topology import Topology, ensure_inbound
from tests.broker import free_ports

MIB = 1024 * 1024
SECRET = "hook-secret-of-this-test"
CREW = {"url": "http://127.0.0.1:9", "token": "crew-token-of-this-test"}
MANIFEST = Path(__file__).parents[3] / "deploy" / "kubernetes" / "base" / "deployment.yaml"
Record = Callable[[str, object], None]


def manifest_limit() -> int:
    """The memory limit of the container in the manifest, in bytes."""
    [container] = yaml.safe_load(MANIFEST.read_text())["spec"]["template"]["spec"]["containers"]
    number, unit = re.fullmatch(r"(\d+)(Gi|Mi)", container["resources"]["limits"]["memory"]).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": MIB, "Gi": 1024 * MIB}[unit]


@dataclass
class Daemon:
    """A daemon with a limit."""

    process: asyncio.subprocess.Process
    url: str
    port: int
    http: aiohttp.ClientSession
    store: Path

    @property
    def peak(self) -> int:
        """The peak in MiB so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1024

    async def works(self) -> None:
        """It still responds, and its own steps continue."""
        async with self.http.get(f"{self.url}/readyz") as response:
            assert response.status == 200, await response.text()
        assert self.process.returncode is None

    def sql(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.store, timeout=60)) as connection, connection:
            for statement in statements:
                connection.execute(statement)


@asynccontextmanager
async def limited(
    folder: Path, amqp: str | None = None, crew: Mapping[str, object] | None = None
) -> AsyncIterator[Daemon]:
    [port] = free_ports(1)
    store = folder / "bridge.db"
    settings = {
        "http": {"port": port},
        "store": {"url": f"sqlite:///{store}"},
        "log": {"level": "error"},
        "crews": {"research": {**CREW, **(crew or {})}},
        "hooks": {
            "shop": {
                "crew": "research",
                "verify": {"scheme": "github", "secret": SECRET},
                "inputs": {"topic": "body.topic"},
            }
        },
    }
    if amqp is not None:
        settings["amqp"] = {"url": amqp, "max_message": "1MiB", "prefetch": 100}
    path = folder / "bridge.yaml"
    path.write_text(yaml.safe_dump(settings))
    limit = manifest_limit()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bridge", "run", "--config", str(path),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(600)) as http:
        try:
            await _answering(http, url)
            yield Daemon(process, url, port, http, store)
        finally:
            if process.returncode is None:
                process.terminate()
            assert await process.wait() == 0


async def _answering(http: aiohttp.ClientSession, url: str) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(f"{url}/healthz"):
                return
        await asyncio.sleep(0.05)


@asynccontextmanager
async def silent_crew() -> AsyncIterator[tuple[str, asyncio.Event, Counter[str]]]:
    """A crew API that reads kickoffs and answers them only once the event is set, and how many of each it has read."""
    answer, read = asyncio.Event(), Counter[str]()

    async def kickoff(request: web.Request) -> web.Response:
        await request.read()
        read["kickoffs"] += 1
        await answer.wait()
        return web.json_response({"kickoff_id": f"k-{read['kickoffs']}-{id(request)}"})

    async def status(_: web.Request) -> web.Response:
        return web.json_response({"state": "RUNNING"})

    async def inputs(_: web.Request) -> web.Response:
        return web.json_response({"inputs": []})

    app = web.Application(client_max_size=64 * MIB)
    app.add_routes([web.get("/inputs", inputs), web.post("/kickoff", kickoff), web.get("/status/{id}", status)])
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    [port] = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://localhost:{port}", answer, read
    finally:
        answer.set()
        await runner.cleanup()


@asynccontextmanager
async def results_of(result: str) -> AsyncIterator[str]:
    """A crew API whose executions succeed at once, with this result."""
    status = json.dumps({"state": "SUCCESS", "status": None, "result": result}, ensure_ascii=False).encode()
    started = count(1)

    async def kickoff(_: web.Request) -> web.Response:
        return web.json_response({"kickoff_id": f"k-{next(started)}"})

    async def report(_: web.Request) -> web.Response:
        return web.Response(body=status, content_type="application/json")

    async def inputs(_: web.Request) -> web.Response:
        return web.json_response({"inputs": []})

    app = web.Application()
    app.add_routes([web.get("/inputs", inputs), web.post("/kickoff", kickoff), web.get("/status/{id}", report)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def small_objects(number: int = 60_000) -> str:
    """JSON of 16 bytes for each object, which takes twenty times as much once it is parsed."""
    return "[" + ",".join(['{"a":{"b":"x"}}'] * number) + "]"


async def submit(daemon: Daemon, body: bytes, headers: Mapping[str, str] | None = None) -> int:
    """Send a request until it is accepted; return how often it was asked to come again."""
    refused = 0
    while True:
        sent = {"Content-Type": "application/json", **(headers or {})}
        async with daemon.http.post(f"{daemon.url}/v1/runs", data=body, headers=sent) as response:
            if response.status in {200, 202}:
                return refused
            assert response.status in {429, 503}, await response.text()
            await asyncio.sleep(float(response.headers["Retry-After"]))
            refused += 1


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - another process makes it true
        await asyncio.sleep(0.1)


def stored_runs(daemon: Daemon) -> int:
    with closing(sqlite3.connect(daemon.store, timeout=60)) as connection:
        [(number,)] = connection.execute("SELECT count(*) FROM runs").fetchall()
    return int(number)


def ended_runs(daemon: Daemon, state: str = "%") -> int:
    with closing(sqlite3.connect(daemon.store, timeout=60)) as connection:
        query = "SELECT count(*) FROM runs WHERE finished_at IS NOT NULL AND state LIKE ?"
        [(number,)] = connection.execute(query, (state,)).fetchall()
    return int(number)


def runs_with_results(number: int, size: int) -> str:
    """Ended runs, with results just small enough for lists."""
    return (
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number}) "
        "INSERT INTO runs (run_id, crew, state, version, source, fingerprint, priority, inputs, meta, accepted_at, "
        "finished_at, attempt, auto_retries, in_doubt_emitted, unverified, polls, result) "
        "SELECT printf('01920000-0000-7000-8000-%012d', i), 'research', "
        f"'succeeded', 1, 'client/anonymous', 'f', 0, '{{}}', '{{}}', {time.time()}, {time.time()}, 1, 0, 0, 0, 1, "
        f"CAST(replace(hex(zeroblob({size // 2})), '0', 'x') AS BLOB) FROM n"
    )


def dead_letters(number: int, size: int) -> list[str]:
    recursion = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {number}) "
    events = (
        f"{recursion} INSERT INTO events (event_id, type, headers, content_type, created_at, stored_at, body) "
        f"SELECT printf('e-%06d', i), 'dead_letter', '{{}}', 'x', {time.time()}, i, zeroblob({size}) FROM n"
    )
    deliveries = (
        f"{recursion} INSERT INTO deliveries (delivery_id, event_id, created_at, channel, target, state, attempts, "
        f"earlier_attempts, due_at) SELECT printf('e-%06d-1', i), printf('e-%06d', i), {time.time()}, 'dead_letter', "
        f"'kickoff.dead', 'dead', 1, 0, {time.time()} FROM n"
    )
    return [events, deliveries]


@pytest.mark.nightly
async def test_parallel_lists_of_large_results(tmp_path: Path, full: bool, record_property: Record) -> None:
    async with limited(tmp_path) as daemon:
        daemon.sql(runs_with_results(200, 250 * 1024))

        async def pages() -> None:
            async with daemon.http.get(f"{daemon.url}/v1/runs?limit=200") as response:
                assert response.status == 200
                assert (await response.json())["next_cursor"]

        await asyncio.gather(*(pages() for _ in range(30 if full else 10)))
        await daemon.works()
        record(record_property, "30 lists of 250 KiB results", daemon)


async def test_lists_that_are_never_read(tmp_path: Path, full: bool, record_property: Record) -> None:
    async with limited(tmp_path) as daemon:
        daemon.sql(runs_with_results(200, 250 * 1024))
        request = b"GET /v1/runs?limit=200 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        loop, unread = asyncio.get_running_loop(), list[socket.socket]()
        for _ in range(60 if full else 10):
            unread.append(connection := socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.setblocking(False)
            await loop.sock_connect(connection, ("127.0.0.1", daemon.port))
            await loop.sock_sendall(connection, request * 4)
        async with daemon.http.get(f"{daemon.url}/v1/runs?limit=1") as response:
            assert response.status in {200, 503}
        await daemon.works()
        record(record_property, "lists that are never read", daemon)
        for connection in unread:
            connection.close()


@pytest.mark.nightly
async def test_unsigned_bodies_without_their_last_byte(tmp_path: Path, full: bool, record_property: Record) -> None:
    async with limited(tmp_path) as daemon:
        head = b"POST /hooks/shop HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1048576\r\n\r\n"
        writers = []
        for _ in range(900 if full else 150):
            _, writer = await asyncio.open_connection("127.0.0.1", daemon.port)
            writer.write(head + b" " * (MIB - 1))
            writers.append(writer)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        await daemon.works()
        record(record_property, "unsigned bodies without their last byte", daemon)
        for writer in writers:
            writer.transport.abort()


@pytest.mark.nightly
async def test_dead_letters_are_listed_without_their_bodies(
    tmp_path: Path, full: bool, record_property: Record
) -> None:
    async with limited(tmp_path) as daemon:
        daemon.sql(*dead_letters(200 if full else 60, 4 * MIB))
        async with daemon.http.get(f"{daemon.url}/v1/deliveries?limit=200") as response:
            assert len((await response.json())["deliveries"]) == (200 if full else 60)
        await daemon.works()
        record(record_property, "list of dead letters of 4 MiB", daemon)


async def test_messages_that_are_too_large(tmp_path: Path, amqp: str, full: bool, record_property: Record) -> None:
    number = 100 if full else 12
    async with await aio_pika.connect(amqp) as connection:
        channel = await connection.channel()
        await ensure_inbound(channel, Topology())
        for _ in range(number):
            await channel.default_exchange.publish(aio_pika.Message(b" " * (15 * MIB)), "kickoff.requests")
        async with limited(tmp_path, amqp) as daemon:
            dead = await channel.get_queue("kickoff.dead")
            for _ in range(number):
                while (found := await dead.get(no_ack=True, fail=False)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
                assert len(found.body) == 15 * MIB
            await daemon.works()
            record(record_property, "messages of 15 MiB, which are too large", daemon, manifest_limit() // 2)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["crew", "flow"])
async def test_submits_of_many_small_objects(tmp_path: Path, full: bool, record_property: Record, kind: str) -> None:
    """Sixteen of them are POSTed at once, while others are accepted."""
    body = b'{"crew":"research","inputs":{"topic":' + small_objects().encode() + b"}}"
    number = 40 if full else 24
    async with silent_crew() as (url, answer, read):
        crew = {"url": url, "kind": kind, "max_running": 16, "requests_per_second": 64}
        async with limited(tmp_path, crew=crew) as daemon:
            await asyncio.gather(*(submit(daemon, body) for _ in range(number // 2)))
            await asyncio.gather(*(submit(daemon, body) for _ in range(number // 2)))
            await until(lambda: read["kickoffs"] > 0)
            await daemon.works()
            answer.set()
            await until(lambda: read["kickoffs"] == 16)
            await daemon.works()
            record(record_property, f"{number} submits of 60,000 small objects, {kind}", daemon, manifest_limit() // 2)


async def test_large_submits_most_of_which_wait(tmp_path: Path, full: bool, record_property: Record) -> None:
    number = 400 if full else 60
    async with silent_crew() as (url, answer, _), limited(tmp_path, crew={"url": url}) as daemon:
        body = json.dumps({"crew": "research", "inputs": {"topic": "x" * (MIB - 100)}}).encode()
        waiting = {"Prefer": "wait=5"}
        refused = await asyncio.gather(
            *(submit(daemon, body, waiting if index % 4 else None) for index in range(number))
        )
        await daemon.works()
        answer.set()  # or the daemon would wait for it when it stops
        print(f"asked to come again {sum(refused)} times")
        record(record_property, f"{number} submits of 1 MiB, 3 in 4 wait", daemon, manifest_limit() // 2)


@pytest.mark.nightly
async def test_hooks_of_many_small_objects(tmp_path: Path, full: bool, record_property: Record) -> None:
    body = b'{"topic":"otters","unused":' + small_objects().encode() + b"}"
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()

    async def send(daemon: Daemon, number: int) -> None:
        headers = {
            "Content-Type": "application/json",
            "X-Hub-Signature-256": f"sha256={signature}",
            "X-GitHub-Delivery": f"d-{number}",
        }
        async with daemon.http.post(f"{daemon.url}/hooks/shop", data=body, headers=headers) as response:
            assert response.status == 202, await response.text()

    async with limited(tmp_path) as daemon:
        number = 40 if full else 20
        await asyncio.gather(*(send(daemon, index) for index in range(number)))
        await daemon.works()
        record(record_property, f"{number} hooks of 60,000 small objects", daemon, manifest_limit() // 2)


@pytest.mark.nightly
async def test_messages_of_many_small_objects(tmp_path: Path, amqp: str, full: bool, record_property: Record) -> None:
    number = 100 if full else 40
    body = b'{"inputs":{"topic":' + small_objects().encode() + b"}}"
    async with await aio_pika.connect(amqp) as connection, silent_crew() as (url, answer, read):
        channel = await connection.channel()
        await ensure_inbound(channel, Topology())
        exchange = await channel.get_exchange("kickoff.requests")
        for index in range(number):
            await exchange.publish(aio_pika.Message(body, message_id=f"m-{index}"), "research")
        crew = {"url": url, "max_running": 64, "requests_per_second": 64}
        async with limited(tmp_path, amqp, crew) as daemon:
            await until(lambda: stored_runs(daemon) == number)
            await until(lambda: read["kickoffs"] > 0)
            answer.set()
            await until(lambda: read["kickoffs"] >= min(number, 64))
            await daemon.works()
            record(record_property, f"{number} messages of 60,000 small objects", daemon, manifest_limit() // 2)


async def test_large_results(tmp_path: Path, full: bool, record_property: Record) -> None:
    """Their text takes four bytes per character once it is parsed."""
    number = 32 if full else 8
    result = "🦉" + "x" * (31 * MIB)
    async with results_of(result) as url:
        crew = {"url": url, "kind": "flow", "max_running": number, "poll": {"min_interval": "1s", "max_interval": "1s"}}
        async with limited(tmp_path, crew=crew) as daemon:
            body = b'{"crew":"research","inputs":{}}'
            await asyncio.gather(*(submit(daemon, body) for _ in range(number)))
            await until(lambda: ended_runs(daemon) == number)
            await daemon.works()
            record(record_property, f"{number} results of 31 MiB", daemon)
            assert ended_runs(daemon, "succeeded") == number


def record(record_property: Record, case: str, daemon: Daemon, bound: int | None = None) -> None:
    print(f"{case}: peak {daemon.peak} MiB, limit {manifest_limit() // MIB}")
    record_property("peak", f"{case}: {daemon.peak} MiB")
    assert daemon.peak * MIB < (bound or manifest_limit())
