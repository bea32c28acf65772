"""What must exist on the broker: exchange and queue for requests, exchange for results, queue for dead messages."""

import asyncio
from dataclasses import dataclass
from typing import Any

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractQueue

BOUND_EVERY = 10.0  # seconds

# A queue's arguments cannot be changed later (406), so only those are set that no operator would want otherwise.
# Policies can add the rest, such as a maximum length.
# RabbitMQ counts every return, those by a lost connection too, and takes no other number for "none" (4.x: 20). So
# valid messages must never come near; one that cannot be decoded is refused on its first delivery (`frames`).
DELIVERY_LIMIT = 1_000_000
DEAD_ARGUMENTS: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERY_LIMIT,  # else RabbitMQ 4 deletes a message that was looked at 20 times
}


@dataclass(frozen=True, slots=True)
class Topology:
    """Names. `requests` is an exchange and a queue; `declare` False: everything must exist already."""

    requests: str = "kickoff.requests"
    results: str = "kickoff.results"
    dead: str = "kickoff.dead"
    declare: bool = True


def requests_arguments(dead: str) -> dict[str, Any]:
    """The requests queue: what the broker gives up goes to the dead queue, and is kept here until it has arrived."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",  # the default exchange leads to any queue by name; no exchange of our own needed
        "x-dead-letter-routing-key": dead,
        "x-dead-letter-strategy": "at-least-once",  # the default may lose a message on its way
        "x-overflow": "reject-publish",  # without it the broker falls back to at-most-once
    }


async def ensure_inbound(channel: AbstractChannel, topology: Topology) -> AbstractQueue:
    """Declare or check the inbound exchange and queue; return the queue. Raise what the broker reports."""
    await _ensure_dead(channel, topology)  # first: dead letters need somewhere to go
    exchange = await _ensure_exchange(channel, topology.requests, declare=topology.declare)
    if not topology.declare:
        return await channel.declare_queue(topology.requests, passive=True)
    arguments = requests_arguments(topology.dead)
    queue = await channel.declare_queue(topology.requests, durable=True, arguments=arguments)
    await queue.bind(exchange, routing_key="#")
    return queue


async def rebind_periodically(queue: AbstractQueue, topology: Topology, every: float = BOUND_EVERY) -> None:
    """Bind the queue again every so many seconds, because the broker does not report removed bindings.

    Run forever; return at once if `declare` is false.
    """
    while topology.declare:
        await asyncio.sleep(every)
        await queue.bind(topology.requests, routing_key="#")


async def ensure_outbound(channel: AbstractChannel, topology: Topology) -> AbstractExchange:
    """Declare or check the results exchange and return it. Raise what the broker reports."""
    await _ensure_dead(channel, topology)
    return await _ensure_exchange(channel, topology.results, declare=topology.declare)


async def _ensure_dead(channel: AbstractChannel, topology: Topology) -> None:
    if topology.declare:
        await channel.declare_queue(topology.dead, durable=True, arguments=DEAD_ARGUMENTS)
    else:
        await channel.declare_queue(topology.dead, passive=True)


async def _ensure_exchange(channel: AbstractChannel, name: str, *, declare: bool) -> AbstractExchange:
    return await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True, passive=not declare)
