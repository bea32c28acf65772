"""Fixtures with a RabbitMQ that tests may kill and freeze, and a virtual host for each test."""

import asyncio
from collections.abc import Iterator
from itertools import count

import pytest

from tests.broker import Broker, running_broker
from tests.system.acceptance.harness import bind_results

_numbers = count(1)


@pytest.fixture(scope="session")
def node() -> Iterator[Broker]:
    """A RabbitMQ that only these tests use, stop, and start."""
    with running_broker() as node:
        yield node


@pytest.fixture
async def amqp(node: Broker) -> str:
    """The URL of a virtual host of its own for the test, with a queue that keeps every event."""
    await asyncio.to_thread(node.start_again)
    name = f"test-{next(_numbers)}"
    await asyncio.to_thread(node.add_vhost, name)
    url = node.url_for("guest", "guest", name)
    await bind_results(url)
    return url
