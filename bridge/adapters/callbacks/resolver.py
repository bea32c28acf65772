"""Name resolution for callback URLs, in a dedicated thread pool.

The system's lookup blocks a thread, for half a minute if a name server does not respond, and the event loop has only a
few threads. With those, the names of a few dead receivers would delay every other lookup.
"""

import asyncio
import socket
from collections.abc import Sequence

from aiohttp.abc import AbstractResolver, ResolveResult

from bridge.adapters.threads import start_threads

MAX_LOOKUPS = 256  # concurrent; more than the concurrent calls, because a lookup outlives an abandoned attempt

STACK_BYTES = 512 * 1024  # of each thread, for DNS lookups; only used pages take memory


class SystemResolver(AbstractResolver):
    """Resolves names with the system's lookup in its own threads."""

    def __init__(self) -> None:
        self._threads = start_threads(MAX_LOOKUPS, "callback-names", STACK_BYTES)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raise `OSError` for a name without addresses."""
        loop = asyncio.get_running_loop()
        try:
            infos = await loop.run_in_executor(self._threads, _resolve_host, host, port, family)
        except UnicodeError as error:  # a name that cannot be encoded, such as one with an empty label
            raise OSError(None, "not a host name") from error
        return [_result(host, found, protocol, target) for found, _, protocol, _, target in infos]

    async def close(self) -> None:
        """Cancel queued lookups without waiting for running ones."""
        self._threads.shutdown(wait=False, cancel_futures=True)


_Target = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
_Info = tuple[socket.AddressFamily, socket.SocketKind, int, str, _Target]


def _resolve_host(host: str, port: int, family: socket.AddressFamily) -> Sequence[_Info]:
    return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


def _result(host: str, family: socket.AddressFamily, protocol: int, target: _Target) -> ResolveResult:
    address, port = str(target[0]), int(target[1])
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=protocol, flags=socket.AI_NUMERICHOST
    )
