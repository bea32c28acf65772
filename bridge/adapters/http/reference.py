"""The rendered API reference: one static page with a strict policy. No token is required; it contains no secret."""

import asyncio
import hashlib
from collections.abc import Callable

from aiohttp import ETag, hdrs, web


class ReferencePage:
    """The page at `/docs`. `render` returns it; called once, when it is first requested. `policy`: what it may load."""

    def __init__(self, render: Callable[[], str], policy: str) -> None:
        self._render = render
        self._page: tuple[bytes, ETag] | None = None
        self._headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            hdrs.CACHE_CONTROL: "no-cache",  # kept, but revalidated, so that an upgrade shows at once
        }

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/docs", self._show)]

    async def _show(self, request: web.Request) -> web.Response:
        if self._page is None:
            body = (await asyncio.to_thread(self._render)).encode()
            self._page = body, ETag(hashlib.sha256(body).hexdigest()[:32])
        body, tag = self._page
        if tag in (request.if_none_match or ()):
            response = web.Response(status=304)
        else:
            response = web.Response(body=body, content_type="text/html", charset="utf-8")
        response.headers.update(self._headers)
        response.etag = tag
        return response
