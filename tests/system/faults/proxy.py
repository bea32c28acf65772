"""A TCP proxy with network faults: closed connections, resets, delays, small pieces, and silence."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.tcp_server import tcp_server


@dataclass
class Proxy:
    """Forwards everything to `target`.

    `delay` in seconds per piece, `piece` in bytes; `silent`: nothing is forwarded.
    """

    target: tuple[str, int]
    delay: float = 0.0
    piece: int = 65536
    cuts: int = 0
    port: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _passing: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._passing.set()

    @property
    def links(self) -> int:
        return len(self._writers) // 2

    def go_silent(self) -> None:
        """Like a network that drops every packet: no byte passes, no connection closes."""
        self._passing.clear()

    def speak_again(self) -> None:
        self._passing.set()

    def cut(self) -> int:
        """Reset every connection on both sides; return their number."""
        links = self.links
        self.cuts += links
        for writer in list(self._writers):
            _reset(writer)
        return links

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward, back = await asyncio.open_connection(*self.target)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, back}
        flows = {asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._pass(onward, writer))}
        try:
            await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for flow in flows:
                flow.cancel()
            for each in (writer, back):
                self._writers.discard(each)
                each.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(self.piece):
                await self._passing.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def proxy_to(host: str, port: int) -> AsyncIterator[Proxy]:
    proxy = Proxy((host, port))
    async with tcp_server(proxy.serve) as proxy.port:
        try:
            yield proxy
        finally:
            proxy.speak_again()
            proxy.cut()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
