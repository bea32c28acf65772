"""Looking up the hosts of callback URLs, in threads of their own.

The system's lookup blocks a thread, for half a minute where a name server does not answer, and the loop has only a few
threads for it. With those, the names of a few dead receivers would keep everybody else's waiting.
"""

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

MAX_LOOKUPS = 256  # at once; more than the calls that may wait for one, because a lookup outlives an attempt given up


class NameLookup(AbstractResolver):
    """The system's name lookup."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(MAX_LOOKUPS, thread_name_prefix="callback-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host; raises `OSError` for a name that has none."""
        loop = asyncio.get_running_loop()
        try:
            infos = await loop.run_in_executor(self._threads, _resolve_host, host, port, family)
        except UnicodeError as error:  # a name that cannot be asked for, such as one with an empty label
            raise OSError(None, "not a host name") from error
        return [_result(host, found, protocol, target) for found, _, protocol, _, target in infos]

    async def close(self) -> None:
        """Wait for nobody."""
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
