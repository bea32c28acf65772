"""One HTTP connection: the time a request's head may take, the rest of a refused body, an answer to what is not HTTP.

aiohttp bounds an idle connection but not the head itself: a client that sends a byte now and then would hold its place
for as long as an idle one may. The deadline starts with the connection, and later with the first byte of a new head.
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
from bridge.core.http.connections import Connections

_LINGER_SECONDS = 2.0  # for the rest of a refused body, so that the client reads the response and no reset
_LINGER_BYTES = 1024 * 1024  # of it at most
_LEAST_SENT = 64 * 1024  # bytes that a client has to read of its responses while `write_seconds` pass

log = structlog.get_logger()


class Connection(web.RequestHandler):
    """aiohttp's connection with a deadline for heads; `head_seconds` and `keepalive_seconds` in seconds.

    `others`: the open connections of its listener, which it enters and leaves. A client that reads nothing of its
    `responses` for `write_seconds` loses it.
    """

    __slots__ = (
        "_discarded", "_given", "_head_seconds", "_head_timer", "_others", "_responses", "_wire", "_write_seconds",
        "_write_timer",
    )  # fmt: skip

    def __init__(
        self,
        server: web.Server,
        others: Connections[Connection],
        head_seconds: float,
        keepalive_seconds: float,
        write_seconds: float,
        responses: ByteBudget,
    ) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=keepalive_seconds,
            access_log=None,  # type: ignore[arg-type]  # aiohttp asks whether there is one; its annotation does not
            lingering_time=_LINGER_SECONDS,
            auto_decompress=False,  # it would inflate any body on any path; `http_json` does it, after authentication
        )
        self._others = others
        self._discarded: int | None = None
        self._head_seconds = head_seconds
        self._head_timer: asyncio.TimerHandle | None = None
        self._responses = responses
        self._write_seconds = write_seconds
        self._write_timer: asyncio.TimerHandle | None = None
        self._wire: asyncio.Transport | None = None
        self._given = 0  # bytes of responses that were written to the transport, which keeps what is not sent yet

    @property
    def idle(self) -> bool:
        """Whether it waits for a request, or for the rest of a head."""
        return self._waiter is not None and not self._waiter.done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the deadline of the first head, and close the connection that yields to this one, if there is one."""
        super().connection_made(transport)
        self._wire = transport if isinstance(transport, asyncio.Transport) else None
        self._await_head()
        address = client_network(transport.get_extra_info("peername", ("",))[0])
        yielding = self._others.add(self, address)
        if yielding is not None:
            log.debug("http_connection_dropped", address=address)
            yielding.drop()

    def authenticate(self) -> None:
        """Keep this connection when anonymous ones are closed for new ones."""
        self._others.authenticate(self)

    def drop(self) -> None:
        """Close at once, even if the peer reads nothing."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the deadlines, and leave the others."""
        self._others.remove(self)
        self._head_is_here()
        if self._write_timer is not None:
            self._write_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start, keep or end the deadline by what the parser made of the bytes; cut off the rest of a refused body."""
        if self._discarded is not None:
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self.force_close()
        super().data_received(data)
        # The parser tells nobody that it is inside a head. But bytes that leave the connection still waiting for a
        # request can only be the beginning of one.
        if not self.idle:
            self._head_is_here()
        elif data:
            self._await_head()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a head that is not HTTP. Its text stays out of log and answer: it may hold a token."""
        if request.writer.output_size > 0:
            raise ConnectionError(message)
        if isinstance(exc, UnicodeEncodeError) and hdrs.EXPECT in request.headers:
            status = 417  # the library quotes what is expected, and fails over what is no text
        log.debug("http_head_refused", status=status, error=type(exc).__name__)
        response = problems.plain(431 if isinstance(exc, LineTooLong) else status).response()
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a bug; what is left of a refused body and is malformed is none."""
        if not isinstance(kw.get("exc_info"), RequestPayloadError):
            super().log_exception(*args, **kw)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer; those that aiohttp made before any middleware ran (417) become problems here.

        A body that was not read to its end is not worth reading now: the connection closes after the response.
        """
        if isinstance(resp, web.HTTPException):
            problem = problems.of(resp)
            resp = resp if problem is None else problem.response()
        unread = not request.content.is_eof()
        if unread:
            resp.force_close()
        resp.headers[hdrs.SERVER] = "kickoff-bridge"  # not which version of which library
        with memory.response_hold(request, resp, self._responses) as hold:
            self._given += hold.size
            self._watch_writing()
            sent = await super().finish_response(request, resp, start_time)
        if unread:
            self._discarded = 0
        return sent

    def _watch_writing(self) -> None:
        """See to it that what is written is read: a connection whose client reads nothing is lost."""
        if self._write_timer is None and self._wire is not None:
            self._write_timer = asyncio.get_running_loop().call_later(
                self._write_seconds, self._check_writing, self._sent()
            )

    def _check_writing(self, sent_before: int) -> None:
        self._write_timer = None
        if self._wire is None or not self._wire.get_write_buffer_size():
            return
        if self._sent() - sent_before < _LEAST_SENT:
            log.info("http_client_stalled", unsent=self._wire.get_write_buffer_size())
            self._wire.abort()
        else:
            self._watch_writing()

    def _sent(self) -> int:
        return self._given - (0 if self._wire is None else self._wire.get_write_buffer_size())

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = asyncio.get_running_loop().call_later(self._head_seconds, self.force_close)

    def _head_is_here(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def authenticated(request: web.Request) -> None:
    """Note that this request's caller is known, so that its connection outlives those of unauthenticated callers."""
    if isinstance(request.protocol, Connection):
        request.protocol.authenticate()
