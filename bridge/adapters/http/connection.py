"""One HTTP connection: deadlines for request heads and for writing, unread bodies, and responses to malformed HTTP.

aiohttp limits how long a connection may be idle, but not how long a head may take: a client that sends one byte at a
time would occupy its connection indefinitely. The deadline starts with the connection, and later with the first byte of
each new head.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestPayloadError

from bridge.adapters.byte_budget import ByteBudget
from bridge.adapters.http import memory, problems
from bridge.core.addresses import client_network
from bridge.core.http.limits import Connections

SERVER = "kickoff-bridge"  # the header, which would otherwise reveal library versions
_LINGER_SECONDS = 2.0  # to read the rest of a refused body, so that the client sees the response and not a reset
_LINGER_BYTES = 1024 * 1024  # at most that much of it
_READ_BUFFER = 64 * 1024  # bytes of a body; twice as many pause reading, before the body's task can count them
_MIN_SENT = 64 * 1024  # bytes of responses that a client must read within `write_seconds`

log = structlog.get_logger()


class Connection(web.RequestHandler):
    """aiohttp's connection with deadlines for reading heads and for writing responses.

    The connection registers itself in `open_connections`, those of its listener. It is aborted if the client reads none
    of its responses for `write_seconds`. `responses` counts the memory of responses that are not sent yet.
    """

    __slots__ = (
        "_discarded",
        "_handling",
        "_head_seconds",
        "_head_timer",
        "_open_connections",
        "_responses",
        "_write_seconds",
        "_write_timer",
        "_write_transport",
        "_written",
    )  # fmt: skip

    def __init__(
        self,
        server: web.Server,
        open_connections: Connections[Connection],
        head_seconds: float,
        keepalive_seconds: float,
        write_seconds: float,
        responses: ByteBudget,
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=keepalive_seconds,
            access_log=None,  # type: ignore[arg-type]  # aiohttp accepts None, against its annotation
            lingering_time=_LINGER_SECONDS,
            read_bufsize=_READ_BUFFER,
            auto_decompress=False,  # `body` decompresses, after authentication
        )
        self._open_connections = open_connections
        self._discarded: int | None = None
        self._handling = False  # from the first middleware of a request until its response is sent
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._responses = responses
        self._write_seconds = write_seconds
        self._write_timer: asyncio.TimerHandle | None = None
        self._write_transport: asyncio.Transport | None = None
        self._written = 0  # bytes of responses written to the transport, including those still in its buffer

    @property
    def idle(self) -> bool:
        """Whether the connection waits for a request or for the rest of a head."""
        return not self._handling

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the deadline of the first head; close the idle connection that this one displaces, if any."""
        super().connection_made(transport)
        self._write_transport = transport if isinstance(transport, asyncio.Transport) else None
        self._start_head_deadline()
        address = client_network(transport.get_extra_info("peername", ("",))[0])
        evicted = self._open_connections.add(self, address)
        if evicted is not None:
            log.debug("http_connection_dropped", address=address)
            evicted.drop()

    def begin_request(self) -> None:
        """End the deadline of the head, which is complete."""
        self._handling = True
        self._cancel_head_deadline()

    def authenticate(self) -> None:
        """Exempt this connection from being displaced by new ones."""
        self._open_connections.authenticate(self)

    def drop(self) -> None:
        """Close at once, even if the peer does not read."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel the deadlines and unregister the connection."""
        self._open_connections.remove(self)
        self._cancel_head_deadline()
        if self._write_timer is not None:
            self._write_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the deadline of a head with its first byte; limit what is read of a refused body."""
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self.force_close()
        super().data_received(data)
        if data and self.idle:
            self._start_head_deadline()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Respond to a malformed head. Its text is neither logged nor returned: it may contain a token."""
        if request.writer.output_size > 0:
            raise ConnectionError(message)
        if isinstance(exc, UnicodeEncodeError) and hdrs.EXPECT in request.headers:
            status = 417  # aiohttp quotes the header in its response and fails if it is not encodable
        log.debug("http_head_refused", status=status, error=type(exc).__name__)
        response = problems.from_status(431 if isinstance(exc, LineTooLong) else status).response()
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log an unexpected exception, but not a malformed remainder of a refused body."""
        if not isinstance(kw.get("exc_info"), RequestPayloadError):
            super().log_exception(*args, **kw)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; those that aiohttp creates before any middleware runs (417) become problems here.

        If the request's body was not read to its end, the connection closes after the response.
        """
        if isinstance(resp, web.HTTPException):
            problem = problems.from_exception(resp)
            resp = resp if problem is None else problem.response()
        unread = not request.content.is_eof()
        if unread:
            resp.force_close()
        resp.headers[hdrs.SERVER] = SERVER
        # A malformed request never reaches the application, which knows the trusted proxies.
        caller = memory.caller_of(request) if self._handling else client_network(request.remote)
        with memory.response_hold(request, resp, self._responses, caller) as hold:
            self._written += hold.size
            self._start_write_deadline()
            sent = await super().finish_response(request, resp, start_time)
        self._handling = False
        if unread:
            self._discarded = 0
        return sent

    def _start_write_deadline(self) -> None:
        """Start the deadline by which the client must have read part of what was written."""
        if self._write_timer is None and self._write_transport is not None:
            self._write_timer = asyncio.get_running_loop().call_later(
                self._write_seconds, self._check_write_progress, self._sent()
            )

    def _check_write_progress(self, sent_before: int) -> None:
        self._write_timer = None
        if self._write_transport is None or not self._write_transport.get_write_buffer_size():
            return
        if self._sent() - sent_before < _MIN_SENT:
            log.info("http_client_stalled", unsent=self._write_transport.get_write_buffer_size())
            self._write_transport.abort()
        else:
            self._start_write_deadline()

    def _sent(self) -> int:
        return self._written - (0 if self._write_transport is None else self._write_transport.get_write_buffer_size())

    def _start_head_deadline(self) -> None:
        if self._head_timer is None:
            self._head_timer = asyncio.get_running_loop().call_later(self._head_seconds, self.force_close)

    def _cancel_head_deadline(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def begin_request(request: web.Request) -> None:
    """Mark the head of a request as complete; called by the first middleware."""
    if isinstance(request.protocol, Connection):
        request.protocol.begin_request()


def mark_authenticated(request: web.Request) -> None:
    """Mark the request's connection as authenticated, so that new connections do not displace it."""
    if isinstance(request.protocol, Connection):
        request.protocol.authenticate()
