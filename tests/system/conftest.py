"""A virtual host of RabbitMQ for each test."""

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest

from tests.broker import Broker
from tests.postgres import PostgresServer
from tests.system.acceptance.harness import bind_results

VHOSTS = 16  # created at a time


@pytest.fixture
def node(shared_broker: Broker) -> Iterator[Broker]:
    """The RabbitMQ, which a test may stop; it need not start it again."""
    yield shared_broker
    shared_broker.start_again()


@pytest.fixture
def postgres(shared_postgres: PostgresServer) -> PostgresServer:
    """The PostgreSQL; a test that stops it starts it again."""
    return shared_postgres


@pytest.fixture(scope="session")
def vhosts(shared_broker: Broker) -> Iterator[str]:
    """New virtual hosts."""
    return new_vhosts(shared_broker)


def new_vhosts(node: Broker) -> Iterator[str]:
    for first in count(step=VHOSTS):
        names = [f"test-{number}" for number in range(first, first + VHOSTS)]
        node.add_vhosts(names)
        yield from names


@pytest.fixture
async def amqp(node: Broker, vhosts: Iterator[str]) -> str:
    """The URL of a virtual host of its own for the test, with a queue that keeps every event."""
    name = await asyncio.to_thread(next, vhosts)
    url = node.url_for("guest", "guest", name)
    await bind_results(url)
    return url
