"""A broker of the tests' own and a crew API's stand-in for every acceptance test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.acceptance.harness import Daemon, bind_results
from tests.broker import Broker, running_broker

_numbers = count(1)


@pytest.fixture
async def crew_url() -> AsyncIterator[str]:
    """A crew whose runs take from a tenth of a second to one second."""
    async with running(SandboxSettings(run_time=parse_run_time("uniform:0.1:1"), inputs=("n",))) as url:
        yield url


@pytest.fixture(scope="session")
def node() -> Iterator[Broker]:
    """A RabbitMQ that only these tests use, stop and start."""
    with running_broker() as node:
        yield node


@pytest.fixture
async def amqp(node: Broker) -> str:
    """The URL of a virtual host of the test's own, with a queue that keeps every result."""
    await asyncio.to_thread(node.start_again)
    name = f"test-{next(_numbers)}"
    await asyncio.to_thread(node.ctl, "add_vhost", name)
    await asyncio.to_thread(node.ctl, "set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    url = node.url_for("guest", "guest", name)
    await bind_results(url)
    return url


@pytest.fixture
async def daemon(tmp_path: Path, crew_url: str, amqp: str) -> AsyncIterator[Daemon]:
    """A running daemon."""
    bridge = Daemon(tmp_path, crew_url, amqp={"url": amqp})
    await bridge.start()
    yield bridge
    await bridge.close()
