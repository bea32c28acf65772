"""The floor: the same libraries, four durable steps per run, and no features; what a bridge cannot be faster than.

`python -m bench.rivals.floor AMQP_URL CREW_URL`. Accepted, starting, running, and over are committed before the next
step, in SQLite with `synchronous=FULL`, many runs in one commit; results are confirmed. A crash during a POST is not
handled.
"""

import asyncio
import sqlite3
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aio_pika
import aiohttp
import orjson
import uvloop
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage

POLL_INTERVAL = 1.0
AT_ONCE = 64

_TABLE = "CREATE TABLE runs (id TEXT PRIMARY KEY, state TEXT, kickoff_id TEXT, request BLOB, result BLOB) WITHOUT ROWID"
_INDEX = "CREATE INDEX runs_state ON runs (state)"
_ACCEPT = "INSERT OR IGNORE INTO runs VALUES (?, 'accepted', NULL, ?, NULL)"
_STARTING = "UPDATE runs SET state = 'starting' WHERE id = ?"
_RUNNING = "UPDATE runs SET state = 'running', kickoff_id = ? WHERE id = ?"
_OVER = "UPDATE runs SET state = 'over', result = ? WHERE id = ?"


class Rows:
    """Commits all writes that wait, in one thread."""

    def __init__(self, file: str) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        for statement in ("PRAGMA journal_mode=wal", "PRAGMA synchronous=FULL", _TABLE, _INDEX):
            self._connection.execute(statement)
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[str, tuple[Any, ...], asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def write(self, statement: str, *values: Any) -> None:
        """Return when the row is durable."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((statement, values, done))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_all())
        await done

    async def _commit_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, batch)
            for _, _, done in batch:
                done.set_result(None)

    def _commit(self, batch: list[tuple[str, tuple[Any, ...], asyncio.Future[None]]]) -> None:
        kinds: dict[str, list[tuple[Any, ...]]] = {}
        for statement, values, _ in batch:
            kinds.setdefault(statement, []).append(values)
        self._connection.execute("BEGIN IMMEDIATE")
        for statement, rows in kinds.items():
            self._connection.executemany(statement, rows)
        self._connection.execute("COMMIT")


class Floor:
    """Takes messages to their ends."""

    def __init__(self, rows: Rows, crew: str, http: aiohttp.ClientSession, results: AbstractExchange) -> None:
        self._rows, self._crew, self._http, self._results = rows, crew, http, results
        self._posts = asyncio.Semaphore(AT_ONCE)
        self._tracked: set[asyncio.Task[None]] = set()

    async def accept(self, message: AbstractIncomingMessage) -> None:
        """Store the request and ack it; the rest follows in a task of its own."""
        await self._rows.write(_ACCEPT, message.message_id, message.body)
        await message.ack()
        task = asyncio.create_task(self._run(message.message_id or "", orjson.loads(message.body)))
        self._tracked.add(task)
        task.add_done_callback(self._tracked.discard)

    async def _run(self, run_id: str, request: dict[str, Any]) -> None:
        async with self._posts:
            await self._rows.write(_STARTING, run_id)
            body = orjson.dumps({"inputs": request["inputs"]})
            async with self._http.post(f"{self._crew}/kickoff", data=body) as response:
                kickoff_id = orjson.loads(await response.read())["kickoff_id"]
            await self._rows.write(_RUNNING, kickoff_id, run_id)
        while True:
            await asyncio.sleep(POLL_INTERVAL)
            async with self._http.get(f"{self._crew}/status/{kickoff_id}") as response:
                status = await response.read()
            if orjson.loads(status)["state"] in {"SUCCESS", "FAILED"}:
                break
        await self._results.publish(aio_pika.Message(status, delivery_mode=2), "bench.succeeded")
        await self._rows.write(_OVER, status, run_id)


async def main(amqp_url: str, crew: str) -> None:
    connection = await aio_pika.connect(amqp_url)
    channel: AbstractChannel = await connection.channel()
    await channel.set_qos(prefetch_count=1000)
    results = await channel.get_exchange("kickoff.results")
    queue = await channel.get_queue("kickoff.requests")
    headers = {"Authorization": "Bearer t", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    with tempfile.TemporaryDirectory() as folder:
        async with aiohttp.ClientSession(connector=connector, headers=headers) as http:
            await queue.consume(Floor(Rows(f"{folder}/floor.db"), crew, http, results).accept)
            await asyncio.Future()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
