"""The exchanges and queues that must exist on the broker: requests, results, and dead letters."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractQueue

REBIND_INTERVAL = 10.0  # seconds

# The arguments of a queue cannot be changed later (406), so only necessary ones are set; policies can add others, such
# as a maximum length. RabbitMQ counts every requeue, also after a lost connection, and 4.x has a default limit of 20
# that cannot be disabled. So the limit must be out of reach of valid messages; an undecodable one is refused on its
# first delivery (`frames`).
DELIVERY_LIMIT = 1_000_000
DEAD_ARGUMENTS: dict[str, Any] = {
    "x-queue-type": "quorum",
    "x-delivery-limit": DELIVERY_LIMIT,  # otherwise RabbitMQ 4 deletes a message that was listed 20 times
}


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding of an inbound queue to an exchange of others, which must exist."""

    exchange: str
    key: str


@dataclass(frozen=True, slots=True)
class Topology:
    """The names. `requests` is an exchange and a queue; with `declare` false, all must exist already.

    `publishes_results`: whether events are published to the exchange `results`. `sources`: the queues of all sources.
    `is_source`: `requests` is one of them, without an exchange of its own.
    """

    requests: str = "kickoff.requests"
    results: str = "kickoff.results"
    dead: str = "kickoff.dead"
    declare: bool = True
    bindings: tuple[Binding, ...] = ()
    publishes_results: bool = True
    sources: frozenset[str] = frozenset()
    is_source: bool = False

    def for_source(self, queue: str, bindings: tuple[Binding, ...]) -> "Topology":
        """Return the names for the consumer of a source."""
        return replace(self, requests=queue, bindings=bindings, is_source=True)


def requests_arguments(dead: str) -> dict[str, Any]:
    """Return the arguments of an inbound queue: the broker dead-letters to the dead queue, at least once."""
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",  # the default exchange, which routes to queues by name
        "x-dead-letter-routing-key": dead,
        "x-dead-letter-strategy": "at-least-once",  # the default strategy may lose messages
        "x-overflow": "reject-publish",  # required by at-least-once
    }


async def ensure_inbound(channel: AbstractChannel, topology: Topology) -> AbstractQueue:
    """Declare or check the inbound exchange and queue; return the queue. Raise what the broker reports."""
    await _ensure_dead(channel, topology)  # first: dead letters need somewhere to go
    if not topology.is_source:
        await _ensure_exchange(channel, topology.requests, declare=topology.declare)
    if not topology.declare:
        return await channel.declare_queue(topology.requests, passive=True)
    arguments = requests_arguments(topology.dead)
    queue = await channel.declare_queue(topology.requests, durable=True, arguments=arguments)
    await _bind(queue, topology)
    return queue


async def rebind_periodically(queue: AbstractQueue, topology: Topology, every: float = REBIND_INTERVAL) -> None:
    """Bind the queue again every so many seconds, because the broker does not report removed bindings.

    Run forever; return at once if `declare` is false.
    """
    while topology.declare:
        await asyncio.sleep(every)
        await _bind(queue, topology)


async def ensure_outbound(channel: AbstractChannel, topology: Topology) -> None:
    """Declare or check the results exchange. Raise what the broker reports."""
    await _ensure_dead(channel, topology)
    if topology.publishes_results:
        await _ensure_exchange(channel, topology.results, declare=topology.declare)


async def _bind(queue: AbstractQueue, topology: Topology) -> None:
    own = () if topology.is_source else (Binding(topology.requests, "#"),)
    for binding in (*own, *topology.bindings):
        await queue.bind(binding.exchange, routing_key=binding.key)


async def _ensure_dead(channel: AbstractChannel, topology: Topology) -> None:
    if topology.declare:
        await channel.declare_queue(topology.dead, durable=True, arguments=DEAD_ARGUMENTS)
    else:
        await channel.declare_queue(topology.dead, passive=True)


async def _ensure_exchange(channel: AbstractChannel, name: str, *, declare: bool) -> AbstractExchange:
    return await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True, passive=not declare)
