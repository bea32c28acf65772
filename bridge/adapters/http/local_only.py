"""Restrict an API without clients to this machine; refuse requests that a website sends through a local browser."""

from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from bridge.adapters.http import problems
from bridge.adapters.http.problems import Handler
from bridge.core.http.local_request import comes_from_other_site, names_loopback

FETCH_SITE = "Sec-Fetch-Site"

_WEBHOOKS = ("/hooks/", "/amp/")  # sent by other machines to the public name; authenticated by token or signature


def local_only(anonymous: Callable[[], bool]) -> Middleware:
    """Return a middleware that, while the API has no clients, refuses other hosts and sites (403) on every path."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if anonymous():
            _check(request)
        return await handler(request)

    return middleware


def _check(request: web.Request) -> None:
    if not (_is_webhook(request) or _targets_loopback(request)):
        detail = "without clients, only requests to a loopback name such as localhost are accepted; set http.clients"
        raise problems.from_status(403, detail)
    if comes_from_other_site(request.headers.getall(hdrs.ORIGIN, []), request.headers.getall(FETCH_SITE, [])):
        raise problems.from_status(403, "without clients, requests from other sites are refused; set http.clients")


def _is_webhook(request: web.Request) -> bool:
    return problems.route_pattern(request).startswith(_WEBHOOKS)


def _targets_loopback(request: web.Request) -> bool:
    """Return whether the request names this machine, in `Host` and in an absolute request target alike."""
    if not names_loopback(request.headers.getall(hdrs.HOST, [])):
        return False
    target = request.url.raw_host
    return target is not None and names_loopback([f"[{target}]" if ":" in target else target])
