"""The usual first script: one task per kickoff, a fixed sleep between polls, nothing durable.

`python -m bench.rivals.script AMQP_URL CREW_URL`. A message is acked after the publish of its result, so a crash starts
everything in progress once more.
"""

import asyncio
import json
import sys

import aio_pika
import aiohttp
import uvloop
from aio_pika.abc import AbstractExchange, AbstractIncomingMessage

POLL_INTERVAL = 1.0
AT_ONCE = 5000


async def track(
    message: AbstractIncomingMessage, crew: str, http: aiohttp.ClientSession, results: AbstractExchange
) -> None:
    request = json.loads(message.body)
    async with http.post(f"{crew}/kickoff", json={"inputs": request["inputs"]}) as response:
        kickoff_id = (await response.json())["kickoff_id"]
    while True:
        await asyncio.sleep(POLL_INTERVAL)
        async with http.get(f"{crew}/status/{kickoff_id}") as response:
            status = await response.json()
        if status["state"] in {"SUCCESS", "FAILED"}:
            break
    body = json.dumps({"request": request, "kickoff_id": kickoff_id, "result": status["result"]}).encode()
    await results.publish(aio_pika.Message(body, delivery_mode=2), "bench.succeeded")
    await message.ack()


async def main(amqp_url: str, crew: str) -> None:
    connection = await aio_pika.connect(amqp_url)
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=AT_ONCE)
    results = await channel.get_exchange("kickoff.results")
    queue = await channel.get_queue("kickoff.requests")
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": "Bearer t"}) as http:
        await queue.consume(lambda message: track(message, crew, http, results))
        await asyncio.Future()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
