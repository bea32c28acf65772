"""The careful version: a row in PostgreSQL for each request, and one loop that advances the rows in batches.

`python -m bench.rivals.trigger_loop AMQP_URL CREW_URL POSTGRESQL_URL`. Every state is committed before the next step,
and results are confirmed; a crash during a POST is not handled.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import aio_pika
import aiohttp
import orjson
import psycopg
import uvloop
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage

POLL_INTERVAL = 1.0
AT_ONCE = 200
PAUSE = 0.01

_TABLE = """CREATE TABLE triggers (id text PRIMARY KEY, request bytea NOT NULL, state text NOT NULL,
            kickoff_id text, due double precision NOT NULL DEFAULT 0)"""
_INDEX = "CREATE INDEX ON triggers (state, due)"
_ADD = "INSERT INTO triggers (id, request, state) VALUES (%s, %s, 'new') ON CONFLICT DO NOTHING"
_TAKE = """UPDATE triggers SET state = 'starting' WHERE id IN
           (SELECT id FROM triggers WHERE state = 'new' LIMIT %s) RETURNING id, request"""
_STARTED = """UPDATE triggers SET state = 'running', kickoff_id = %s,
              due = extract(epoch FROM clock_timestamp()) + %s WHERE id = %s"""
_DUE = """SELECT id, kickoff_id FROM triggers
          WHERE state = 'running' AND due <= extract(epoch FROM clock_timestamp()) LIMIT %s"""
_LATER = "UPDATE triggers SET due = due + %s WHERE id = %s"
_OVER = "UPDATE triggers SET state = 'over' WHERE id = %s"


class Loop:
    """The rows, and the loop that advances them; `batch`: how many rows one transaction writes."""

    def __init__(self, rows: psycopg.AsyncConnection, crew: str, http: aiohttp.ClientSession, batch: int) -> None:
        self.arrived: list[AbstractIncomingMessage] = []
        self._batch = batch
        self._rows = rows
        self._crew = crew
        self._http = http

    async def run(self, results: AbstractExchange) -> None:
        """Advance all rows that can be advanced, forever."""
        while True:
            busy = [await self._store(), await self._start(), await self._poll(results)]
            await asyncio.sleep(0 if any(busy) else PAUSE)

    async def _store(self) -> bool:
        arrived, self.arrived = self.arrived, []
        if arrived:
            await self._write(_ADD, [(message.message_id, message.body) for message in arrived])
            await arrived[-1].ack(multiple=True)
        return bool(arrived)

    async def _start(self) -> bool:
        cursor = await self._rows.execute(_TAKE, (AT_ONCE,))
        taken = await cursor.fetchall()
        await self._rows.commit()
        ids = await asyncio.gather(*(self._post(request) for _, request in taken))
        await self._write(_STARTED, [(new, POLL_INTERVAL, row[0]) for new, row in zip(ids, taken, strict=True)])
        return bool(taken)

    async def _poll(self, results: AbstractExchange) -> bool:
        cursor = await self._rows.execute(_DUE, (AT_ONCE,))
        due = await cursor.fetchall()
        await self._rows.commit()
        over = await asyncio.gather(*(self._get(kickoff_id, results) for _, kickoff_id in due))
        await self._write(_OVER, [(row[0],) for row, done in zip(due, over, strict=True) if done])
        await self._write(_LATER, [(POLL_INTERVAL, row[0]) for row, done in zip(due, over, strict=True) if not done])
        return bool(due)

    async def _post(self, request: bytes) -> str:
        body = orjson.dumps({"inputs": orjson.loads(request)["inputs"]})
        async with self._http.post(f"{self._crew}/kickoff", data=body) as response:
            kickoff_id: str = orjson.loads(await response.read())["kickoff_id"]
        return kickoff_id

    async def _get(self, kickoff_id: str, results: AbstractExchange) -> bool:
        async with self._http.get(f"{self._crew}/status/{kickoff_id}") as response:
            body = await response.read()
        if orjson.loads(body)["state"] not in {"SUCCESS", "FAILED"}:
            return False
        await results.publish(aio_pika.Message(body, delivery_mode=2), "bench.succeeded")
        return True

    async def _write(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for start in range(0, len(rows), self._batch):
            async with self._rows.cursor() as cursor:
                await cursor.executemany(statement, rows[start : start + self._batch])
            await self._rows.commit()


async def main(amqp_url: str, crew: str, postgresql_url: str, batch: int = 1000) -> None:
    connection = await aio_pika.connect(amqp_url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=1000)
    results = await channel.get_exchange("kickoff.results")
    queue = await channel.get_queue("kickoff.requests")
    headers = {"Authorization": "Bearer t", "Content-Type": "application/json"}
    async with (
        await psycopg.AsyncConnection.connect(postgresql_url) as rows,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE), headers=headers) as http,
    ):
        for statement in (_TABLE, _INDEX):
            await rows.execute(statement)
        await rows.commit()
        loop = Loop(rows, crew, http, batch)

        async def arrive(message: AbstractIncomingMessage) -> None:
            loop.arrived.append(message)

        await queue.consume(arrive)
        await loop.run(results)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3]))
