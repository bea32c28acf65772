"""The scene of every fault test, how much of it is played, and the table of what was seen."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from bridge.sandbox import SandboxSettings, parse_run_time, running
from tests.acceptance.harness import bind_results
from tests.broker import Broker, running_broker
from tests.faults.harness import HEAD, RULE, Scene, Tally, Victim, receiver

_numbers = count(1)
_tallies: list[Tally] = []

SetScene = Callable[..., AbstractAsyncContextManager[Scene]]


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether all of it is played (`make faults`), or the slice that belongs to `make test`."""
    return os.environ.get("FAULTS") == "full"


@pytest.fixture(scope="session")
def node() -> Iterator[Broker]:
    """A RabbitMQ that only these tests use, kill and freeze."""
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
def seed() -> int:
    """`SEED=…` plays a test again."""
    return int(os.environ.get("SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.fixture
def scene(tmp_path: Path, amqp: str, seed: int) -> SetScene:
    """Builds a scene; `kickoff_delay` in seconds, `bridge_amqp` is the broker's URL as the bridge sees it."""

    @asynccontextmanager
    async def set_scene(name: str, kickoff_delay: float = 0.0, bridge_amqp: str | None = None) -> AsyncIterator[Scene]:
        print(f"seed {seed}")
        crew = SandboxSettings(
            run_time=parse_run_time("uniform:0.1:1"),
            inputs=("n",),
            seed=seed,
            kickoff_delay=kickoff_delay,
            ledger_file=tmp_path / "ledger",
        )
        async with running(crew) as crew_url, receiver() as callbacks:
            victim = Victim(
                tmp_path / "bridge",
                crew_url,
                {"callback_url": callbacks.url},
                amqp={"url": bridge_amqp or amqp},
                callbacks={"allow_private": True},
            )
            tally = Tally(name)
            scene = Scene(victim, amqp, crew_url, callbacks, random.Random(seed), tally)
            try:
                yield scene
            finally:
                _tallies.append(tally)
                await victim.close()

    return set_scene


def pytest_terminal_summary() -> None:
    if _tallies:
        sys.stdout.write("\n".join(["", HEAD, RULE, *(tally.row() for tally in _tallies), ""]))
