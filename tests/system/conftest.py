"""Fixtures with a RabbitMQ that tests may kill and freeze, and a virtual host for each test."""

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest

from tests.broker import Broker, running_broker
from tests.system.acceptance.harness import bind_results

VHOSTS = 8  # created at a time


@pytest.fixture(scope="session")
def node() -> Iterator[Broker]:
    """A RabbitMQ that only these tests use, stop, and start."""
    with running_broker() as node:
        yield node


@pytest.fixture(scope="session")
def vhosts(node: Broker) -> Iterator[str]:
    """New virtual hosts."""
    return new_vhosts(node)


def new_vhosts(node: Broker) -> Iterator[str]:
    for first in count(step=VHOSTS):
        names = [f"test-{number}" for number in range(first, first + VHOSTS)]
        node.add_vhosts(names)
        yield from names


@pytest.fixture
async def amqp(node: Broker, vhosts: Iterator[str]) -> str:
    """The URL of a virtual host of its own for the test, with a queue that keeps every event."""
    await asyncio.to_thread(node.start_again)
    name = await asyncio.to_thread(next, vhosts)
    url = node.url_for("guest", "guest", name)
    await bind_results(url)
    return url
