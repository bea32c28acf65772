"""Fixtures of acceptance tests: a sandbox crew and a daemon."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.system.acceptance.harness import Daemon


@pytest.fixture
async def crew_url() -> AsyncIterator[str]:
    """A crew whose runs take from a tenth of a second to one second."""
    async with running(SandboxSettings(run_time=parse_run_time("uniform:0.1:1"), inputs=("n",))) as url:
        yield url


@pytest.fixture
async def daemon(tmp_path: Path, crew_url: str, amqp: str) -> AsyncIterator[Daemon]:
    """A running daemon."""
    bridge = Daemon(tmp_path, crew_url, amqp={"url": amqp})
    await bridge.start()
    yield bridge
    await bridge.close()
