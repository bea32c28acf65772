"""The console: static files for people, served with strict headers. They use nothing but the API.

The files are read once, at the start, so that a request reads no disk and names no path.
"""

import hashlib
from importlib import resources

from aiohttp import ETag, hdrs, web

from bridge.adapters.http import problems

INDEX = "index.html"

_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    hdrs.CACHE_CONTROL: "no-cache",  # kept, but revalidated, so that an upgrade shows at once
}


class ConsoleFiles:
    """The page at `/` and its files at `/console/`. No token is required; they contain no secret."""

    def __init__(self) -> None:
        files = resources.files("bridge").joinpath("console")
        self._files = {file.name: (file.read_bytes(), _media_type(file.name)) for file in files.iterdir()}
        self._tags = {name: ETag(hashlib.sha256(body).hexdigest()[:32]) for name, (body, _) in self._files.items()}

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/", self._page), web.get("/console/{file}", self._file)]

    async def _page(self, request: web.Request) -> web.Response:
        return self._respond(request, INDEX)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["file"]
        if name not in self._files:
            raise problems.from_status(404)
        return self._respond(request, name)

    def _respond(self, request: web.Request, name: str) -> web.Response:
        body, media_type = self._files[name]
        known = self._tags[name] in (request.if_none_match or ())
        response = web.Response(status=304) if known else web.Response(body=body, content_type=media_type)
        if not known:
            response.charset = "utf-8"
        response.headers.update(_HEADERS)
        response.etag = self._tags[name]
        return response


def _media_type(name: str) -> str:
    return _MEDIA_TYPES[name[name.rindex(".") :]]
