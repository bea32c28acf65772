"""A small web server on a free port: a receiver, or a stand-in for another system."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web


@asynccontextmanager
async def web_server(*routes: web.RouteDef, **options: Any) -> AsyncIterator[str]:
    """Serve these routes, with further options of aiohttp's runner; yield the URL, without a path."""
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, **{"access_log": None, "shutdown_timeout": 0.1, **options})
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
