"""The Python producer and consumer of docs/integrate-rabbitmq.md, run as published against a bridge."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.testing import RunningBridge
from tests.broker import Broker
from tests.patience import PATIENCE

PAGE = (Path(__file__).parents[2] / "docs" / "integrate-rabbitmq.md").read_text("utf-8")
PRODUCER, CONSUMER = [
    block for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) if "import pika" in block
]


@pytest.fixture
def kickoff_bridge_settings(shared_broker: Broker) -> dict[str, Any]:
    return {"amqp": {"url": shared_broker.url}}


async def test_the_consumer_prints_the_event_of_the_request_that_the_producer_sent(
    kickoff_bridge: RunningBridge, shared_broker: Broker, tmp_path: Path
):
    async with _script(CONSUMER, shared_broker, tmp_path) as consumer:
        async with _script(PRODUCER, shared_broker, tmp_path) as producer:
            assert await producer.wait() == 0
        assert consumer.stdout is not None
        line = (await consumer.stdout.readline()).decode()
    assert line == "run.succeeded {'order': 42} The sandbox crew has dealt with topic: tidal power.\n"


@asynccontextmanager
async def _script(text: str, broker: Broker, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The published script in a process of its own, with the address of this broker."""
    published = "amqp://guest:guest@127.0.0.1:5672/"
    assert published in text
    script = text.replace(published, broker.url)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-c", script), cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
