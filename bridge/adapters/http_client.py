"""HTTP clients for peers that break the protocol: the status is known once its line is read, whatever follows.

Between the connection and aiohttp's parser stands a reader of response heads. It hands on what `core.response_head`
makes of them, and the body separately, so that a fault behind the head cannot take the head with it.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import aiohttp
from aiohttp.connector import Connection

from bridge.core.http import response_head


@dataclass(slots=True)
class SeenStatus:
    """The status that a response began with; None: no complete status line."""

    code: int | None = None


_seen = ContextVar[SeenStatus | None]("seen_status", default=None)


@contextmanager
def seen_status() -> Iterator[SeenStatus]:
    """Note the status of the request that is made inside, also if it ends with an exception."""
    seen = SeenStatus()
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


class LenientRequest(aiohttp.ClientRequest):
    """The `request_class` of sessions whose peers are not ours."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Put a reader of heads before the parser, then send."""
        if conn.transport is not None and conn.protocol is not None:
            conn.transport.set_protocol(_HeadReader(conn.protocol, _seen.get() or SeenStatus()))
        return await super().send(conn)


class _HeadReader(asyncio.Protocol):
    """One response: holds its head back until that is complete, then passes everything through."""

    def __init__(self, parser: asyncio.Protocol, seen: SeenStatus) -> None:
        self._parser = parser
        self._seen = seen
        self._held = bytearray()
        self._passing = False

    def data_received(self, data: bytes) -> None:
        if self._passing:
            self._parser.data_received(data)
            return
        searched = max(0, len(self._held) - 3)
        self._held += data if self._held else data.lstrip(b"\r\n")
        end = response_head.end_of_head(self._held, searched)
        while end is not None and response_head.is_interim(self._held):
            del self._held[:end]
            end = response_head.end_of_head(self._held)
        if b"\n" in data and not response_head.is_interim(self._held):
            self._seen.code = response_head.status_of(self._held)
        if end is not None:
            self._pass_on(response_head.mended(bytes(self._held[:end])), bytes(self._held[end:]))
        elif len(self._held) > response_head.MAX_HEAD:
            self._pass_on(bytes(self._held), b"")  # for the parser to refuse

    def _pass_on(self, head: bytes, rest: bytes) -> None:
        self._passing, self._held = True, bytearray()
        self._parser.data_received(head)
        if rest:
            self._parser.data_received(rest)

    def eof_received(self) -> bool | None:
        return self._parser.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._parser.connection_lost(exc)

    def pause_writing(self) -> None:
        self._parser.pause_writing()

    def resume_writing(self) -> None:
        self._parser.resume_writing()
