"""A receiver of callbacks that fails at its first call for each event, in the way that the path names."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

REDIRECTS = (301, 302, 303, 307, 308)
FAILURES = (400, 401, 403, 404, 405, 408, 409, 413, 422, 425, 429, 500, 501, 502, 503, 504)
TAKEN = ("200", "204", "slow body", "endless body")
GONE = ("410",)
CUT_OFF = ("reset", "closed", "nonsense", "silent")
RECEIVER_FAULTS = (*map(str, REDIRECTS), *map(str, FAILURES), *TAKEN, *GONE, *CUT_OFF)


@dataclass
class FaultyReceiver:
    """`calls` counts by fault and event id, `bodies` holds the bodies of each id; `trap` must never be called."""

    url: str = ""
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    bodies: dict[str, set[bytes]] = field(default_factory=dict)
    trapped: int = 0

    async def take(self, request: web.Request) -> web.StreamResponse:
        fault, body = request.match_info["fault"], await request.read()
        event_id = json.loads(body)["id"]
        self.bodies.setdefault(event_id, set()).add(body)
        self.calls[fault, event_id] += 1
        return web.Response() if self.calls[fault, event_id] > 1 else await self._misbehave(request, fault)

    async def trap(self, _: web.Request) -> web.Response:
        self.trapped += 1
        return web.Response()

    async def _misbehave(self, request: web.Request, fault: str) -> web.StreamResponse:
        assert request.transport is not None
        match fault:
            case "slow body" | "endless body":
                return await self._trickle(request, 10 if fault == "slow body" else 10_000)
            case "reset":
                request.transport.abort()
            case "closed":
                request.transport.close()
            case "nonsense":
                request.transport.write(b"\x00 this is no HTTP\r\n\r\n")
                request.transport.close()
            case "silent":
                await asyncio.sleep(60)
            case _:
                return web.Response(status=int(fault), headers=self._headers(int(fault)))
        return web.Response()

    def _headers(self, status: int) -> dict[str, str]:
        if status in REDIRECTS:
            return {"Location": self.url.replace("/faults", "/trap")}
        return {"Retry-After": "7"} if status in (429, 503) else {}

    async def _trickle(self, request: web.Request, pieces: int) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(pieces):
            await response.write(b"more " * 1000)
            await asyncio.sleep(0.05)
        return response


@asynccontextmanager
async def faulty_receiver() -> AsyncIterator[FaultyReceiver]:
    found = FaultyReceiver()
    app = web.Application()
    app.router.add_post("/faults/{fault}", found.take)
    app.router.add_route("*", "/trap/{any}", found.trap)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"{site.name}/faults"
    try:
        yield found
    finally:
        await runner.cleanup()
