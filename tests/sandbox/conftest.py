"""A clock to turn by hand, and a sandbox with a client to talk to it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from bridge.sandbox import SandboxSettings, running

START = 1_790_000_000.0


@dataclass(slots=True)
class HandClock:
    """Stands still until it is moved."""

    moment: float = START

    def __call__(self) -> float:
        return self.moment

    def forward(self, seconds: float) -> None:
        self.moment += seconds


@dataclass(slots=True)
class Talk:
    """A running sandbox and what tests say to it."""

    url: str
    clock: HandClock
    session: aiohttp.ClientSession
    headers: dict[str, str] = field(default_factory=lambda: {"Authorization": "Bearer sandbox-token"})

    def call(self, method: str, path: str, **kwargs: Any) -> Any:
        return self.session.request(method, self.url + path, **{"headers": self.headers, **kwargs})

    async def json(self, method: str, path: str, **kwargs: Any) -> Any:
        async with self.call(method, path, **kwargs) as response:
            return await response.json()

    async def refusal(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        async with self.call(method, path, **kwargs) as response:
            return response.status, await response.json()

    async def kickoff(self, meta: Any = None, **inputs: Any) -> str:
        body = {"inputs": {"topic": "tides", **inputs}, "meta": meta}
        kickoff_id: str = (await self.json("POST", "/kickoff", json=body))["kickoff_id"]
        return kickoff_id

    async def status(self, kickoff_id: str) -> Any:
        return await self.json("GET", f"/status/{kickoff_id}")

    async def states(self, *kickoff_ids: str) -> list[str]:
        return [(await self.status(kickoff_id))["state"] for kickoff_id in kickoff_ids]

    async def ledger(self) -> Any:
        return await self.json("GET", "/_ledger", headers={})

    async def spoil(self, *rules: dict[str, Any]) -> None:
        async with self.call("POST", "/_faults", json=list(rules), headers={}) as response:
            assert response.status == 200, await response.text()


Start = Callable[..., Any]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def start(clock: HandClock) -> AsyncIterator[Start]:
    """Start sandboxes with the given settings; they stop with the test."""
    async with AsyncExitStack() as stack:

        async def start_one(**settings: Any) -> Talk:
            url = await stack.enter_async_context(running(SandboxSettings(**settings), clock))
            return Talk(url, clock, await stack.enter_async_context(aiohttp.ClientSession()))

        yield start_one
