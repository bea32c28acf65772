"""The limit: the same calls with the same libraries and nothing else; no ack, no confirm, no second poll, no store.

`python -m bench.rivals.bare AMQP_URL CREW_URL`. A crash loses everything in progress.
"""

import asyncio
import sys

import aio_pika
import aiohttp
import orjson
import uvloop
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage

WAIT = 1.0  # seconds, after which every execution of the benchmark has ended


async def track(
    message: AbstractIncomingMessage, crew: str, http: aiohttp.ClientSession, results: AbstractExchange
) -> None:
    inputs = orjson.loads(message.body)["inputs"]
    async with http.post(f"{crew}/kickoff", data=orjson.dumps({"inputs": inputs})) as response:
        kickoff_id = orjson.loads(await response.read())["kickoff_id"]
    await asyncio.sleep(WAIT)
    async with http.get(f"{crew}/status/{kickoff_id}") as response:
        status = await response.read()
    await results.publish(aio_pika.Message(status, delivery_mode=2), "bench.succeeded", mandatory=False)


async def main(amqp_url: str, crew: str) -> None:
    connection = await aio_pika.connect(amqp_url)
    channel = await connection.channel(publisher_confirms=False)
    results = await channel.get_exchange("kickoff.results")
    queue = await channel.get_queue("kickoff.requests")
    headers = {"Authorization": "Bearer t", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200), headers=headers) as http:
        await queue.consume(lambda message: track(message, crew, http, results), no_ack=True)
        await asyncio.Future()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
