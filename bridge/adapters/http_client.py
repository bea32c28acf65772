"""HTTP client requests with URLs as given, which tolerate protocol violations by servers.

Whether the first byte may have been sent is known at any time, and the status once the status line has arrived.

A reader of response heads precedes aiohttp's parser. It passes on the head as repaired by `core.http.response_head`,
and the body separately, so that an error in the body does not lose the head.
"""

import asyncio
import ipaddress
import re
import select
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from yarl import URL

from bridge.core.http import response_head


@dataclass(slots=True)
class Transmission:
    """What is known of one request.

    `started`: the first byte may have been sent, if `kept` over a connection that had carried another request.
    `status`: that of the response; None: no complete status line arrived. `on_early_close`: called if the server closes
    the connection without having announced it in the response.
    """

    started: bool = False
    kept: bool = False
    status: int | None = None
    on_early_close: Callable[[], None] = lambda: None


_ABSOLUTE_URL = re.compile("([^:/?#]+)://([^/?#]*)([^#]*)")  # scheme, authority, path and query

_current = ContextVar[Transmission | None]("transmission", default=None)


def observe_next(on_early_close: Callable[[], None] = lambda: None) -> Transmission:
    """Observe the next request of this task, even if it ends with an exception."""
    transmission = Transmission(on_early_close=on_early_close)
    _current.set(transmission)
    return transmission


class ConnectionUnusable(aiohttp.ClientConnectionError):
    """A kept connection is no longer certain to be open. No byte of the request was sent."""


class LenientRequest(aiohttp.ClientRequest):
    """The `request_class` of sessions with servers that may violate the protocol.

    A request with a body raises `ConnectionUnusable` rather than use a kept connection on which the server has sent
    anything, or its end, since its last response.
    """

    _transmission: Transmission

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Insert the head reader before the parser, then send."""
        self._transmission = _current.get() or Transmission()
        if conn.transport is not None and conn.protocol is not None:
            self._transmission.kept = isinstance(conn.transport.get_protocol(), _HeadReader)
            conn.transport.set_protocol(_HeadReader(conn.protocol, self._transmission))
        return await super().send(conn)

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Write the head and the body."""
        if self._transmission.kept and conn.protocol is not None and not _is_silent(conn.protocol):
            self._transmission.on_early_close()
            conn.protocol.set_exception(ConnectionUnusable("closed before the request was sent"))
            return
        self._transmission.started = True
        await super().write_bytes(writer, conn, content_length)


def _is_silent(protocol: ResponseHandler) -> bool:
    """Return whether a connection is open, and nothing has arrived on it that was not read."""
    if protocol.should_close or not protocol.is_connected() or protocol.transport is None:
        return False
    poll = select.poll()
    poll.register(protocol.transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not poll.poll(0)


def exact_url(url: str) -> URL:
    """Return an absolute URL whose path and query are sent byte for byte; only a fragment is not sent.

    The library would decode, encode, or shorten them otherwise (`%2F`, `[]`, `/x/../y`, a final `?`), and some servers
    sign or compare what they have received.
    """
    parts = _ABSOLUTE_URL.match(url)
    assert parts is not None
    scheme, authority, target = parts.groups()
    path = target if target.startswith("/") else f"/{target}"
    return URL.build(scheme=scheme.lower(), authority=authority, path=path, encoded=True)


@dataclass(frozen=True, slots=True)
class ProxyRule:
    """Through which HTTP proxy to call others.

    `url`: of the proxy, possibly with user and password, or `env`: as the environment says; None: call directly.
    """

    url: str | None = field(default=None, repr=False)

    def proxy_for(self, url: str) -> str | None:
        """Return the URL of the proxy for calls to `url`; None: no proxy."""
        if self.url != "env":
            return self.url
        parts, proxies = urlsplit(url), getproxies()
        networks = [entry.strip() for entry in proxies.get("no", "").split(",") if "/" in entry]
        if proxy_bypass(parts.netloc) or any(_is_in(parts.hostname or "", network) for network in networks):
            return None
        named = proxies.get(parts.scheme)
        return f"http://{named}" if named and "://" not in named else named  # as curl reads it


def _is_in(host: str, network: str) -> bool:
    """Return whether a host is an address in a network such as `10.0.0.0/8`, which Python's library does not read."""
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


DIRECT = ProxyRule()

UNTRUSTED = "certificate cannot be verified"
_FAILURES = (
    (TimeoutError, "timed out"),
    (aiohttp.ClientConnectorCertificateError, UNTRUSTED),
    (aiohttp.ClientSSLError, "TLS handshake failed"),
    (aiohttp.ClientProxyConnectionError, "proxy not reachable"),
    (aiohttp.ClientConnectorDNSError, "host name not found"),
    (aiohttp.ClientConnectorError, "connection failed"),
    (aiohttp.ClientPayloadError, "incomplete response"),
    (aiohttp.ClientConnectionError, "connection closed"),
    (OSError, "connection closed"),
)
"""The reasons of failures; the first class that matches counts."""


def describe_failure(error: Exception) -> str:
    """Return why a request has no usable response, without the addresses and headers that an error may contain."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"refused by the proxy: HTTP {error.status}"
    return next((reason for kind, reason in _FAILURES if isinstance(error, kind)), "malformed response")


class _HeadReader(asyncio.Protocol):
    """Buffers the head of one response until it is complete, then passes everything through."""

    def __init__(self, parser: ResponseHandler, transmission: Transmission) -> None:
        self._parser = parser
        self._transmission = transmission
        self._buffer = bytearray()
        self._head_passed = False
        self._may_be_kept = False

    def data_received(self, data: bytes) -> None:
        if self._head_passed:
            self._parser.data_received(data)
            return
        searched = max(0, len(self._buffer) - 3)
        self._buffer += data if self._buffer else data.lstrip(b"\r\n")
        end = response_head.end_of_head(self._buffer, searched)
        status = response_head.status_code(self._buffer)
        while response_head.is_interim(status) and end is not None:
            del self._buffer[:end]
            end = response_head.end_of_head(self._buffer)
            status = response_head.status_code(self._buffer)
        if not response_head.is_interim(status):
            self._transmission.status = status
        if end is not None:
            head = response_head.sanitized(bytes(self._buffer[:end]))
            self._may_be_kept = not response_head.announces_close(head)
            self._forward(head, bytes(self._buffer[end:]))
        elif len(self._buffer) > response_head.MAX_HEAD:
            self._forward(bytes(self._buffer), b"")  # for the parser to refuse

    def _forward(self, head: bytes, rest: bytes) -> None:
        self._head_passed, self._buffer = True, bytearray()
        self._parser.data_received(head)
        if rest:
            self._parser.data_received(rest)

    def eof_received(self) -> None:
        self._parser.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._may_be_kept and self._parser.transport is not None:  # None: closed by this side
            self._transmission.on_early_close()
        self._parser.connection_lost(exc)

    def pause_writing(self) -> None:
        self._parser.pause_writing()

    def resume_writing(self) -> None:
        self._parser.resume_writing()
