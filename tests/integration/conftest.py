"""Fixtures with a real RabbitMQ: one node for all tests, with names of its own for each test."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import pytest

from bridge.adapters.amqp.connection import LinkOptions
from bridge.adapters.amqp.topology import Topology
from tests.amqp_client import Client, FakeInbound, client_of
from tests.broker import Broker

_numbers = count(1)


@pytest.fixture
async def broker(shared_broker: Broker) -> AsyncIterator[Broker]:
    """The node, running; a test that stops it need not start it again."""
    yield shared_broker
    await asyncio.to_thread(shared_broker.start_again)


@pytest.fixture
def topology() -> Topology:
    number = next(_numbers)
    return Topology(f"requests-{number}", f"results-{number}", f"dead-{number}")


@pytest.fixture
def link(broker: Broker) -> LinkOptions:
    return LinkOptions([broker.url], "test", timeout=5.0, longest_pause=0.5)


@pytest.fixture
async def client(broker: Broker, topology: Topology) -> AsyncIterator[Client]:
    async with client_of(broker.url, topology) as client:
        yield client


@pytest.fixture
def inbound() -> FakeInbound:
    return FakeInbound()
