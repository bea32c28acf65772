"""Fixtures of the sandbox: a manual clock, a sandbox with a client, and a receiver for its webhooks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from bridge.sandbox import SandboxSettings, running

START = 1_790_000_000.0
AT_ONCE = 30.0  # seconds: half of what a server of the library waits for its callers by default


@dataclass(slots=True)
class HandClock:
    """Stands still until it is moved."""

    moment: float = START

    def __call__(self) -> float:
        return self.moment

    def forward(self, seconds: float) -> None:
        self.moment += seconds


@dataclass(slots=True)
class SandboxClient:
    """A running sandbox with a client."""

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

    async def kickoff_with(self, members: dict[str, Any], **inputs: Any) -> str:
        """Start an execution with these members of the body, for example webhooks."""
        body = {"inputs": {"topic": "tides", **inputs}, "meta": {"job": 1}, **members}
        kickoff_id: str = (await self.json("POST", "/kickoff", json=body))["kickoff_id"]
        return kickoff_id

    async def status(self, kickoff_id: str) -> Any:
        return await self.json("GET", f"/status/{kickoff_id}")

    async def states(self, *kickoff_ids: str) -> list[str]:
        return [(await self.status(kickoff_id))["state"] for kickoff_id in kickoff_ids]

    async def ledger(self) -> Any:
        return await self.json("GET", "/_ledger", headers={})

    async def later(self, seconds: float = 0.0) -> Any:
        """Advance the clock, wait until everything due has been sent, and return the ledger."""
        self.clock.forward(seconds)
        await self.ledger()
        return await self.ledger()

    async def sent(self, seconds: float = 0.0) -> list[str]:
        """Return the kinds of all webhooks so far."""
        return [note["kind"] for note in (await self.later(seconds))["webhooks"]]

    async def inject(self, *rules: dict[str, Any]) -> None:
        async with self.call("POST", "/_faults", json=list(rules), headers={}) as response:
            assert response.status == 200, await response.text()


@dataclass(frozen=True, slots=True)
class Delivery:
    """A received webhook."""

    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return orjson.loads(self.raw)


@dataclass(slots=True)
class Receiver:
    """Accepts webhooks on any path."""

    url: str = ""
    arrived: asyncio.Queue[Delivery] = field(default_factory=asyncio.Queue)

    async def take(self, count: int = 1) -> list[Delivery]:
        return [await self.arrived.get() for _ in range(count)]

    async def one(self) -> Delivery:
        return await self.arrived.get()

    async def handle(self, request: web.Request) -> web.Response:
        self.arrived.put_nowait(Delivery(request.path, dict(request.headers), await request.read()))
        return web.Response(status=204)


Start = Callable[..., Any]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def start(clock: HandClock) -> AsyncIterator[Start]:
    """Start sandboxes with the given settings; they stop with the test."""
    async with AsyncExitStack() as stack:

        async def start_one(**settings: Any) -> SandboxClient:
            url = await stack.enter_async_context(running(SandboxSettings(**settings), clock))
            return SandboxClient(url, clock, await stack.enter_async_context(aiohttp.ClientSession()))

        yield start_one


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    taker = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", taker.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    taker.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield taker
    await runner.cleanup()
