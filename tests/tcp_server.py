"""A TCP server on a free port: a peer without a library, which may violate its protocol."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def tcp_server(handle: Handle, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Handle every connection; yield the port. At the end, the handlers are cancelled and the connections cut.

    Otherwise a connection that was still open would be reported as unclosed in another test.
    """
    tasks, writers = set[asyncio.Task[None]](), set[asyncio.StreamWriter]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        writers.add(writer)
        await handle(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        port: int = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*tasks, *(writer.wait_closed() for writer in writers), return_exceptions=True)
