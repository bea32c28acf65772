"""The Python producer and consumer of docs/integrate-rabbitmq.md, run as published against a bridge."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import yaml

from bridge import daemon
from bridge.config import load
from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.amqp_client import eventually
from tests.broker import Broker
from tests.patience import PATIENCE

PAGE = (Path(__file__).parents[2] / "docs" / "integrate-rabbitmq.md").read_text("utf-8")
PRODUCER, CONSUMER = [
    block for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) if "import pika" in block
]


async def test_the_consumer_prints_the_event_of_the_request_that_the_producer_sent(broker: Broker, tmp_path: Path):
    async with _bridge(tmp_path, broker.url), _script(CONSUMER, broker, tmp_path) as consumer:
        async with _script(PRODUCER, broker, tmp_path) as producer:
            assert await producer.wait() == 0
        assert consumer.stdout is not None
        line = (await consumer.stdout.readline()).decode()
    assert line == "run.succeeded {'order': 42} The sandbox crew has dealt with topic: tidal power.\n"


@asynccontextmanager
async def _bridge(folder: Path, amqp_url: str) -> AsyncIterator[None]:
    """A bridge that has declared its exchanges, with a sandbox crew."""
    async with running(SandboxSettings(run_time=parse_run_time("fixed:0.2"))) as crew_url:
        poll = {"min_interval": "100ms", "max_interval": "100ms"}
        settings = {
            "http": {"port": 0},
            "store": {"url": f"sqlite:///{folder}/bridge.db"},
            "amqp": {"url": amqp_url},
            "crews": {"research": {"url": crew_url, "token": "sandbox-token", "poll": poll}},
        }
        file = folder / "bridge.yaml"
        file.write_text(yaml.safe_dump(settings))
        async with daemon.serving(load(file, environ={})) as url, aiohttp.ClientSession(url) as session:
            await eventually(lambda: _is_ready(session))
            yield


async def _is_ready(session: aiohttp.ClientSession) -> bool:
    async with session.get("/readyz") as response:
        status: str = (await response.json())["status"]
    return status == "ready"


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
