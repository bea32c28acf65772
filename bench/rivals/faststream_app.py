"""A FastStream handler: the framework's usual form of the script, nothing durable.

`python -m bench.rivals.faststream_app AMQP_URL CREW_URL`. A message is acked after the publish of its result, so a
crash starts everything in progress once more.
"""

import asyncio
import sys
from typing import Any

import aiohttp
import uvloop
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

POLL_INTERVAL = 1.0
AT_ONCE = 5000


async def main(amqp_url: str, crew: str) -> None:
    broker = RabbitBroker(amqp_url, default_channel=Channel(prefetch_count=AT_ONCE))
    results = RabbitExchange("kickoff.results", type=ExchangeType.TOPIC, durable=True, declare=False)
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": "Bearer t"}) as http:

        @broker.subscriber(RabbitQueue("kickoff.requests", durable=True, declare=False))
        async def track(request: dict[str, Any]) -> None:
            async with http.post(f"{crew}/kickoff", json={"inputs": request["inputs"]}) as response:
                kickoff_id = (await response.json())["kickoff_id"]
            while True:
                await asyncio.sleep(POLL_INTERVAL)
                async with http.get(f"{crew}/status/{kickoff_id}") as response:
                    status = await response.json()
                if status["state"] in {"SUCCESS", "FAILED"}:
                    break
            await broker.publish(
                {"request": request, "kickoff_id": kickoff_id, "result": status["result"]},
                exchange=results, routing_key="bench.succeeded", persist=True,
            )  # fmt: skip

        await broker.start()
        await asyncio.Future()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
