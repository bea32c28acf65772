"""An API without clients is for this machine only: refuse what a website sends through a browser on it."""

from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from bridge.adapters.http import problems
from bridge.adapters.http.problems import Handler
from bridge.core.http.local_request import comes_from_other_site, names_loopback

FETCH_SITE = "Sec-Fetch-Site"

_WEBHOOKS = ("/hooks/", "/amp/")  # other machines send these under the public name; each has a proof of its own


def local_only(anonymous: Callable[[], bool]) -> Middleware:
    """Return a middleware that refuses other hosts and sites (403) on every path, while the API has no clients."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if anonymous():
            _check(request)
        return await handler(request)

    return middleware


def _check(request: web.Request) -> None:
    if not (_is_webhook(request) or _is_addressed_here(request)):
        detail = "without clients, only requests to a loopback name such as localhost are accepted: set http.clients"
        raise problems.plain(403, detail)
    if comes_from_other_site(request.headers.getall(hdrs.ORIGIN, []), request.headers.getall(FETCH_SITE, [])):
        raise problems.plain(403, "without clients, no requests of other sites are accepted: set http.clients")


def _is_webhook(request: web.Request) -> bool:
    return problems.route_pattern(request).startswith(_WEBHOOKS)


def _is_addressed_here(request: web.Request) -> bool:
    """Return whether the request names this machine; an absolute request target may name another host than `Host`."""
    if not names_loopback(request.headers.getall(hdrs.HOST, [])):
        return False
    target = request.url.raw_host
    return target is not None and names_loopback([f"[{target}]" if ":" in target else target])
